package agent

import (
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/postern-db/postern/internal/fault"
	"github.com/postern-db/postern/internal/provision"
)

// metrics is what an agent counts and measures. It names no person, only databases.
type metrics struct {
	steps      *prometheus.HistogramVec // by step of a session
	refused    *prometheus.CounterVec   // sessions, by kind of fault and SQLSTATE
	work       *prometheus.HistogramVec // provisioning, by what was done
	statements *prometheus.HistogramVec // of one plan, by what was done
	repaired   *prometheus.CounterVec   // by database and what was repaired
	cancels    prometheus.Counter       // refused, since too many came
}

// What provisioning does, as the metrics name it.
const (
	workActivate = "activate"
	workRelease  = "release"
	workSweep    = "sweep"
	workBundle   = "bundle"
)

func newMetrics() *metrics {
	seconds := []float64{.001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10}
	return &metrics{
		steps: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "postern_session_step_seconds", Help: "Time of one step of setting a session up or ending it.", Buckets: seconds,
		}, []string{"step"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_sessions_refused_total", Help: "Sessions that were refused, by kind of fault and SQLSTATE.",
		}, []string{"kind", "sqlstate"}),
		work: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "postern_provision_seconds", Help: "Time to lead a database user or a bundle to what policy says.", Buckets: seconds,
		}, []string{"work"}),
		statements: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "postern_provision_statements", Help: "Statements that were run for it; 0 when nothing differed.",
			Buckets: []float64{0, 1, 2, 4, 8, 16, 32, 64, 128, 256},
		}, []string{"work"}),
		repaired: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "postern_repaired_total", Help: "Accounts and bundles that background work found different from policy and repaired, or could not.",
		}, []string{"database", "what", "result"}),
		cancels: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "postern_cancels_refused_total", Help: "Cancel requests whose key was not looked at, because too many came at once.",
		}),
	}
}

// step measures one step of a session.
func (m *metrics) step(name string, do func() error) error {
	defer func(begin time.Time) { m.steps.WithLabelValues(name).Observe(time.Since(begin).Seconds()) }(time.Now())
	return do()
}

// refuse counts a session that was refused with an error and a SQLSTATE.
func (m *metrics) refuse(err error, sqlstate string) {
	kind := fault.KindOf(err).String()
	_, own := errors.AsType[*fault.Error](err)
	if _, theirs := errors.AsType[*pgconn.PgError](err); theirs && !own {
		kind = "postgresql"
	}
	m.refused.WithLabelValues(kind, sqlstate).Inc()
}

func (m *metrics) provisioned(work string, statements int, took time.Duration) {
	m.work.WithLabelValues(work).Observe(took.Seconds())
	m.statements.WithLabelValues(work).Observe(float64(statements))
}

// repair counts what background work did.
func (m *metrics) repair(database, what string, err error) {
	result := "repaired"
	if err != nil {
		result = "failed"
	}
	m.repaired.WithLabelValues(database, what, result).Inc()
}

// Metrics returns what the agent counts and measures, to be registered.
func (s *Server) Metrics() prometheus.Collector { return collector{s} }

// collector collects the metrics of an agent, some of which are read when they are asked for.
type collector struct{ s *Server }

// The metrics that are read when they are asked for, all by database.
var (
	descOpen    = prometheus.NewDesc("postern_sessions_open", "Database sessions that are open.", []string{"database"}, nil)
	descHealthy = prometheus.NewDesc("postern_database_healthy", "1 where the server answers, 0 where it does not or is not known to.", []string{"database"}, nil)
	descSweeps  = prometheus.NewDesc("postern_sweeps_total", "Sweeps for accounts without sessions, by whether something was left to be done soon.", []string{"database", "result"}, nil)
	descRetries = prometheus.NewDesc("postern_provision_retries_total", "Work that was done again after a collision or on a new connection.", []string{"database"}, nil)
	descBundles = prometheus.NewDesc("postern_bundles", "Bundles that sessions use, or did not long ago.", []string{"database"}, nil)
)

// Describe implements [prometheus.Collector].
func (c collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descOpen, descHealthy, descSweeps, descRetries, descBundles} {
		to <- d
	}
	for _, m := range c.s.metrics.all() {
		m.Describe(to)
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(to chan<- prometheus.Metric) {
	open := c.s.sessionsByDatabase()
	for _, d := range c.s.servedNow() {
		name := d.resource.GetName()
		healthy := 0.0
		if d.healthNow().Status == statusHealthy {
			healthy = 1
		}
		to <- prometheus.MustNewConstMetric(descOpen, prometheus.GaugeValue, float64(open[name]), name)
		to <- prometheus.MustNewConstMetric(descHealthy, prometheus.GaugeValue, healthy, name)
		if d.provisioner != nil {
			collectStats(to, name, d.provisioner.Stats())
		}
	}
	for _, m := range c.s.metrics.all() {
		m.Collect(to)
	}
}

func collectStats(to chan<- prometheus.Metric, database string, stats provision.Stats) {
	to <- prometheus.MustNewConstMetric(descSweeps, prometheus.CounterValue, float64(stats.Sweeps-stats.FailedSweeps), database, "clean")
	to <- prometheus.MustNewConstMetric(descSweeps, prometheus.CounterValue, float64(stats.FailedSweeps), database, "unfinished")
	to <- prometheus.MustNewConstMetric(descRetries, prometheus.CounterValue, float64(stats.Retries), database)
	to <- prometheus.MustNewConstMetric(descBundles, prometheus.GaugeValue, float64(stats.Bundles), database)
}

// all returns what is counted as it happens.
func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.steps, m.refused, m.work, m.statements, m.repaired, m.cancels}
}

// sessionsByDatabase counts the open sessions.
func (s *Server) sessionsByDatabase() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := map[string]int{}
	for sess := range s.sessions {
		if sess.admitted {
			open[sess.database.resource.GetName()]++
		}
	}
	return open
}
