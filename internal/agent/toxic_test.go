package agent_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/Shopify/toxiproxy/v2/toxics"
	"github.com/rs/zerolog"

	"github.com/postern-db/postern/internal/testenv"
)

// newToxic returns a way through toxiproxy, with toxics in both directions. Its fault
// is that toxiproxy goes down, and comes up again.
func newToxic(t *testing.T, target string, poison ...toxics.ToxicWrapper) faultyWay {
	t.Helper()
	toxics.Register("drain", new(drain))
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	proxy := toxiproxy.NewProxy(server, t.Name(), "127.0.0.1:0", target)
	over := make(chan struct{})
	for _, direction := range []string{"upstream", "downstream"} {
		for _, p := range poison {
			addToxic(t, proxy, direction, p)
		}
		last := addToxic(t, proxy, direction, toxics.ToxicWrapper{Type: "drain", Toxicity: 1, Toxic: new(drain)})
		last.(*drain).over = over
	}
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		proxy.Stop()
		close(over)
	})
	down := func() {
		proxy.Stop()
		testenv.Eventually(t, "toxiproxy is up again", func() bool { return proxy.Start() == nil })
	}
	return faultyWay{addr: proxy.Listen, strike: down, cut: down}
}

// addToxic adds a toxic behind those there are. Toxiproxy takes nothing but JSON.
func addToxic(t *testing.T, proxy *toxiproxy.Proxy, direction string, toxic toxics.ToxicWrapper) toxics.Toxic {
	t.Helper()
	toxic.Stream = direction
	data, err := json.Marshal(toxic)
	if err != nil {
		t.Fatal(err)
	}
	added, err := proxy.Toxics.AddToxicJson(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return added.Toxic
}

// drain is the last toxic of each direction. When a write fails, toxiproxy takes no
// more from its toxics, and where data is on its way they would wait for ever. Drain
// throws it away when the test is over.
type drain struct{ over <-chan struct{} }

// Pipe implements [toxics.Toxic].
func (d *drain) Pipe(stub *toxics.ToxicStub) {
	defer stub.Close()
	for chunk := range stub.Input {
		select {
		case stub.Output <- chunk:
		case <-d.over:
		}
	}
}
