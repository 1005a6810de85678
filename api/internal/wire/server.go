package wire

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"
)

// NewServer makes a server with limits on headers and on time (INV-R1). It speaks
// HTTP/1.1 alone, as every device does (protocols/dps.md §9): a second protocol would
// be a second set of limits.
func NewServer(h http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      requestLimit + 30*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ConnContext:       WithConnection,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// DeviceTLS is the TLS of listeners for devices: TLS 1.2 with AEAD suites or 1.3
// (INV-N1), no session tickets (INV-T4), and client certificates asked for but neither
// demanded nor checked: an enrollment decides about them (protocols/dps.md §2.4).
func DeviceTLS(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		ClientAuth:             tls.RequestClientCert,
		SessionTicketsDisabled: true,
		GetCertificate:         certificate,
		// An answer goes in one record where it fits: strongSwan's EST client takes the
		// second of two for the end when it has not come yet, and one costs less.
		DynamicRecordSizingDisabled: true,
	}
}
