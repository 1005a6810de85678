package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/passmuster/muster/api"
	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/jobs"
	"github.com/passmuster/muster/provisioning"
)

// ops is health and metrics: /livez, /readyz, /metrics; in development profiles too.
type ops struct {
	registry      *prometheus.Registry
	registrations *prometheus.CounterVec
	issued        *prometheus.CounterVec
	requests      *prometheus.CounterVec
	duration      *prometheus.HistogramVec
	panics        prometheus.Counter
	ocsp          *prometheus.CounterVec
	sweeps        *prometheus.CounterVec
	brokers       *prometheus.CounterVec

	dev      bool
	stopping atomic.Bool
	houses   []*house
	jobs     *jobs.Jobs
}

func newOps(dev bool) *ops {
	o := &ops{registry: prometheus.NewRegistry(), dev: dev}
	o.registrations = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "muster_registrations_total", Help: "Attempts of devices to register, by outcome."}, []string{"door", "mechanism", "outcome", "reason"})
	o.issued = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "muster_certificates_issued_total", Help: "Certificates issued to devices."}, []string{"door"})
	o.requests = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "muster_http_requests_total", Help: "HTTP requests."}, []string{"door", "method", "code"})
	o.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "muster_http_request_duration_seconds", Help: "Time to answer.", Buckets: prometheus.ExponentialBuckets(.0005, 2, 14)}, []string{"door"})
	o.panics = prometheus.NewCounter(prometheus.CounterOpts{Name: "muster_panics_total", Help: "Requests that panicked; each is a bug."})
	o.ocsp = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "muster_ocsp_responses_total", Help: "OCSP answers, by status."}, []string{"status"})
	o.sweeps = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "muster_job_runs_total", Help: "Runs of sweeps in this process, by outcome."}, []string{"kind", "outcome"})
	o.brokers = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "muster_broker_checks_total", Help: "Clients that brokers asked about, by the reason of the refusal."}, []string{"broker", "outcome", "reason"})
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "muster_build_info", Help: "1, with the version."}, []string{"version", "mode"})
	build.WithLabelValues(version, mode(dev)).Set(1)
	o.registry.MustRegister(o.registrations, o.issued, o.requests, o.duration, o.panics, o.ocsp, o.sweeps, o.brokers, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return o
}

func mode(dev bool) string {
	if dev {
		return "dev"
	}
	return "production"
}

// watch begins to report on the open houses.
func (o *ops) watch(all []*house) {
	o.houses = all
	o.registry.MustRegister(issuerCollector(all), upstreamCollector(all), logCollector(all), rotationCollector(all), horizonCollector(all), hubCollector(all), disallowCollector(all), registrationCollector(all), tripwireCollector(all))
}

// watchJobs begins to report on the jobs.
func (o *ops) watchJobs(j *jobs.Jobs) {
	o.jobs = j
	o.registry.MustRegister(jobsCollector{j})
}

// swept counts one run of a sweep; it is the jobs' observer.
func (o *ops) swept(r jobs.Run) { o.sweeps.WithLabelValues(r.Sweep, string(r.Outcome)).Inc() }

// checked counts one client that a broker asked about; there are few reasons.
func (o *ops) checked(broker, reason string) {
	outcome := "allow"
	if reason != "" {
		outcome = "deny"
	}
	o.brokers.WithLabelValues(broker, outcome, reason).Inc()
}

// registered counts one attempt of a device; it is the engine's observer.
func (o *ops) registered(out provisioning.Outcome) {
	o.registrations.WithLabelValues(out.Door, out.Mechanism, out.Result, out.Reason).Inc()
	if out.Issued {
		o.issued.WithLabelValues(out.Door).Inc()
	}
}

// served counts one HTTP request; it is the doors' observer.
func (o *ops) served(x api.Observation) {
	o.requests.WithLabelValues(x.Door, x.Method, strconv.Itoa(x.Code)).Inc()
	o.duration.WithLabelValues(x.Door).Observe(x.Duration.Seconds())
}

// ocspAnswered counts one OCSP answer; the door has few words for them.
func (o *ops) ocspAnswered(status string) { o.ocsp.WithLabelValues(status).Inc() }

func (o *ops) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", o.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(o.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError}))
	if o.dev { // where a server spends its time is a developer's question, on loopback
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	}
	return mux
}

// readyz answers 200 when the store can be read and an issuer can sign; 503 otherwise
// or while stopping. ?verbose lists the checks.
func (o *ops) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	checks := map[string]string{"store": "ok", "issuer": "ok", "mode": mode(o.dev)}
	ready, ok := !o.stopping.Load(), "ok\n"
	if !ready {
		checks["stopping"] = "yes"
	}
	for _, h := range o.houses {
		if issuers, err := h.authority.Issuers(ctx); err != nil {
			checks["store"], ready = "cannot be read: id scope "+h.idScope, false
		} else if !canSign(issuers) {
			checks["issuer"], ready = "no active issuer has its key here: id scope "+h.idScope, false
		} else if h.keyProblem() != nil {
			// Status and everything else that needs no signature goes on: still ready.
			checks["issuer"], ok = "the key device is away: nothing is signed", "ok, but nothing is signed: the key device is away\n"
		}
	}
	verbose := r.URL.Query().Has("verbose")
	if verbose {
		checks["log"] = logCheck(ctx, o.houses)
		checks["jobs"] = jobsCheck(ctx, o.jobs, o.houses)
	}
	code, text := http.StatusOK, ok
	if !ready {
		code, text = http.StatusServiceUnavailable, "not ready\n"
	}
	if verbose {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(checks)
		return
	}
	w.WriteHeader(code)
	_, _ = w.Write([]byte(text))
}

func canSign(issuers []ca.Issuer) bool {
	for _, i := range issuers {
		if i.Role == ca.RoleIssuing && i.State == ca.IssuerActive && (i.KeyURI != "" || i.Upstream != "") {
			return true
		}
	}
	return false
}

// issuerCollector reads the clocks an operator watches: when issuers end and when
// their CRLs are due.
type issuerCollector []*house

var (
	issuerNotAfter = prometheus.NewDesc("muster_issuer_not_after_timestamp_seconds", "End of an issuer's certificate.", []string{"issuer", "role"}, nil)
	crlNextUpdate  = prometheus.NewDesc("muster_crl_next_update_timestamp_seconds", "nextUpdate of an issuer's latest CRL.", []string{"issuer"}, nil)
)

func (c issuerCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- issuerNotAfter
	ch <- crlNextUpdate
}

func (c issuerCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, h := range c {
		h.collect(ctx, ch)
	}
}

// collect reports an id scope's issuers. Their ids are random, so they name the tenant too.
func (h *house) collect(ctx context.Context, ch chan<- prometheus.Metric) {
	issuers, err := h.authority.Issuers(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(issuerNotAfter, err)
		return
	}
	for _, i := range issuers {
		if cert, err := h.authority.IssuerCertificate(i.ID); err == nil {
			ch <- prometheus.MustNewConstMetric(issuerNotAfter, prometheus.GaugeValue, float64(cert.NotAfter.Unix()), string(i.ID), string(i.Role))
		}
	}
	shards, err := h.authority.CRLShards(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(crlNextUpdate, err)
		return
	}
	earliest := map[ca.IssuerID]time.Time{}
	for _, s := range shards {
		if was, seen := earliest[s.Issuer]; !s.Next.IsZero() && !h.authority.Ended(s) && (!seen || s.Next.Before(was)) {
			earliest[s.Issuer] = s.Next
		}
	}
	for _, i := range issuers {
		if i.State == ca.IssuerRetired || i.State == ca.IssuerRevoked {
			delete(earliest, i.ID) // it signs no more
		}
	}
	for id, next := range earliest {
		ch <- prometheus.MustNewConstMetric(crlNextUpdate, prometheus.GaugeValue, float64(next.Unix()), string(id))
	}
}
