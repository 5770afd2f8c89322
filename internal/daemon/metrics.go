package daemon

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metricsTimeout bounds a request for metrics, and how long shutting down waits for one.
const metricsTimeout = 10 * time.Second

// metricsServer answers GET /metrics in Prometheus' text format, and nothing else, on an
// address of its own: whoever reaches it may read them.
type metricsServer struct {
	ln     net.Listener
	server *http.Server
}

// listenMetrics opens the address. What collectors tell is served beside what Go
// knows about the process.
func listenMetrics(ctx context.Context, addr string, more ...prometheus.Collector) (*metricsServer, error) {
	registry := prometheus.NewRegistry()
	for _, c := range append(more, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})) {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, listenFault(addr, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{Timeout: metricsTimeout}))
	return &metricsServer{ln: ln, server: &http.Server{
		Handler: mux, ReadHeaderTimeout: metricsTimeout, ReadTimeout: metricsTimeout, WriteTimeout: 2 * metricsTimeout, MaxHeaderBytes: 16 << 10,
	}}, nil
}

// serve answers until ctx ends.
func (m *metricsServer) serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), metricsTimeout)
		defer cancel()
		if m.server.Shutdown(ctx) != nil {
			_ = m.server.Close()
		}
	})
	defer stop()
	err := m.server.Serve(m.ln)
	if ctx.Err() != nil {
		return nil
	}
	return err
}
