package main

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/provisioning"
)

// horizonCollector reports what is coming: what ends soon, what is overdue, who is stuck,
// which issuers wait for a successor. It reads one row of the last survey and a few indexes.
type horizonCollector []*house

var (
	certificatesExpiring = prometheus.NewDesc("muster_certificates_expiring", "Credentials that end within a time, as last surveyed.", []string{"id_scope", "role", "within"}, nil)
	certificatesEnded    = prometheus.NewDesc("muster_certificates_ended", "Credentials in use whose end is over, as last surveyed.", []string{"id_scope", "role"}, nil)
	expirySurvey         = prometheus.NewDesc("muster_expiry_survey_timestamp_seconds", "When the last survey of what ends was made.", []string{"id_scope"}, nil)
	rotationOverdue      = prometheus.NewDesc("muster_rotation_overdue", "Registrations and entries that have been due for more than an hour, counted up to 10000 each.", []string{"id_scope"}, nil)
	rotationStuck        = prometheus.NewDesc("muster_rotation_stuck", "Devices whose roll does not go on.", []string{"id_scope", "reason"}, nil)
	awaitsSuccessor      = prometheus.NewDesc("muster_issuer_awaits_successor", "1 for an active issuer beside which none is prepared.", []string{"issuer"}, nil)
	crlLifetime          = prometheus.NewDesc("muster_crl_lifetime_seconds", "From thisUpdate to nextUpdate of an issuer's latest CRL.", []string{"issuer"}, nil)
)

func (c horizonCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{certificatesExpiring, certificatesEnded, expirySurvey, rotationOverdue, rotationStuck, awaitsSuccessor, crlLifetime} {
		ch <- d
	}
}

func (c horizonCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	for _, h := range c {
		for desc, part := range map[*prometheus.Desc]func(context.Context, chan<- prometheus.Metric) error{
			expirySurvey: h.collectSurvey, rotationOverdue: h.collectRotation, awaitsSuccessor: h.collectSuccessors,
		} {
			if err := part(ctx, ch); err != nil {
				ch <- prometheus.NewInvalidMetric(desc, err)
			}
		}
	}
}

func gauge(d *prometheus.Desc, v float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// spanNames are ExpirySpans as labels say them.
var spanNames = [len(provisioning.ExpirySpans)]string{"24h", "7d", "30d", "90d"}

func (h *house) collectSurvey(ctx context.Context, ch chan<- prometheus.Metric) error {
	s, err := h.engine.Survey(ctx)
	if fault.Is(err, fault.Unavailable) {
		return nil // nothing was counted yet
	}
	if err != nil {
		return err
	}
	ch <- gauge(expirySurvey, float64(s.At.Unix()), h.idScope)
	for _, r := range s.Roles {
		if r.Total == r.Endless {
			continue
		}
		for n, count := range r.Within {
			ch <- gauge(certificatesExpiring, float64(count), h.idScope, string(r.Role), spanNames[n])
		}
		ch <- gauge(certificatesEnded, float64(r.Ended), h.idScope, string(r.Role))
	}
	return nil
}

func (h *house) collectRotation(ctx context.Context, ch chan<- prometheus.Metric) error {
	r, err := h.engine.Rotation(ctx)
	if err != nil {
		return err
	}
	ch <- gauge(rotationOverdue, float64(r.Overdue), h.idScope)
	for _, s := range r.Stuck {
		ch <- gauge(rotationStuck, float64(s.Count), h.idScope, s.Reason)
	}
	return nil
}

func (h *house) collectSuccessors(ctx context.Context, ch chan<- prometheus.Metric) error {
	issuers, err := h.authority.Issuers(ctx)
	if err != nil {
		return err
	}
	for _, i := range issuers {
		if i.State == ca.IssuerActive {
			waits := 1.0
			if provisioning.Succeeded(issuers, i) {
				waits = 0
			}
			ch <- gauge(awaitsSuccessor, waits, string(i.ID))
		}
		if i.State == ca.IssuerRetired || i.State == ca.IssuerRevoked {
			continue
		}
		crl, err := h.authority.PublishedCRL(ctx, i.ID, 0)
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		ch <- gauge(crlLifetime, crl.NextUpdate.Sub(crl.ThisUpdate).Seconds(), string(i.ID))
	}
	return nil
}

// watchCertificate begins to report on the certificate of the TLS listeners.
func (o *ops) watchCertificate(c *serverCertificate) {
	o.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "muster_server_certificate_not_after_timestamp_seconds", Help: "End of the certificate of the TLS listeners; 0 while there is none.",
	}, func() float64 {
		leaf := c.leaf()
		if leaf == nil {
			return 0
		}
		return float64(leaf.NotAfter.Unix())
	}))
}
