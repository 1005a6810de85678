package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/passmuster/muster/ca"
	"github.com/passmuster/muster/ca/ctlog"
	"github.com/passmuster/muster/ca/keys"
	"github.com/passmuster/muster/internal/fault"
	"github.com/passmuster/muster/policies"
)

// ctConfig is about logs of certificates (RFC 6962), for profiles that embed their
// timestamps.
type ctConfig struct {
	// Own says that this server keeps one, of its own issuers' certificates.
	Own bool `yaml:"own,omitempty"`
	// PublicEntries lets anybody read the certificates in it, and not only their hashes.
	PublicEntries bool `yaml:"publicEntries,omitempty"`
	// Logs are others that are asked too.
	Logs []ctLogConfig `yaml:"logs,omitempty"`
	// Optional lets certificates go without the timestamp of a log that does not answer.
	Optional bool `yaml:"optional,omitempty"`
}

type ctLogConfig struct {
	URL     string `yaml:"url"`
	KeyFile string `yaml:"keyFile"` // its public key, PEM
}

const (
	ctKeyName = "log-sct"
	ctKeyURI  = "softkms:" + ctKeyName + ".pem"
)

func ctFolder(c config) string { return filepath.Join(c.Data, "log", "ct") }

// certificateLog is the own log of certificates; nil where there is none.
type certificateLog struct {
	*ctlog.CT
	house  *house
	public bool
}

// openCT opens the own log, if there is one, and whoever asks all of them.
func (h *house) openCT(ctx context.Context, folder *keys.Folder) (ca.SCTSource, error) {
	c := h.config.CT
	var external []ctlog.External
	for _, l := range c.Logs {
		raw, err := os.ReadFile(l.KeyFile)
		if err != nil {
			return nil, err
		}
		block, _ := pem.Decode(raw)
		if block == nil {
			return nil, fault.New(fault.Malformed, "config", "ct.logs: %s holds no public key in PEM", l.KeyFile)
		}
		external = append(external, ctlog.External{URL: l.URL, PublicKey: block.Bytes, Client: &http.Client{Timeout: 10 * time.Second}})
	}
	if !c.Own && len(external) == 0 {
		return nil, nil
	}
	var own *ctlog.CT
	if c.Own {
		signer, err := folder.Open(ctx, ctKeyURI)
		if fault.Is(err, fault.NotFound) {
			_, signer, err = folder.Create(ctx, ctKeyName, policies.KeyECP256)
		}
		if err != nil {
			return nil, err
		}
		if own, err = ctlog.NewCT(ctFolder(h.config), h.ctOrigin(), signer, h.chainOf, time.Now); err != nil {
			return nil, err
		}
		h.ct = &certificateLog{own, h, c.PublicEntries}
	}
	return ctlog.NewSubmitter(own, !c.Optional, external...)
}

// ctOrigin is the log's name: its address without a scheme, as it was when it began.
func (h *house) ctOrigin() string {
	if note, err := os.ReadFile(filepath.Join(ctFolder(h.config), "checkpoint")); err == nil {
		name, _, _ := strings.Cut(string(note), "\n")
		return name
	}
	return strings.TrimSuffix(logOrigin(h.config.pkiURL(), h.idScope), "/log/"+h.idScope) + "/ct/" + h.idScope
}

// chainOf finds an issuer of ours by its certificate, and the chain that begins with it.
func (h *house) chainOf(certificate []byte) ([][]byte, bool) {
	issuers, err := h.authority.Issuers(context.Background())
	if err != nil {
		return nil, false
	}
	i := slices.IndexFunc(issuers, func(i ca.Issuer) bool { return i.Role != ca.RoleExternal && bytes.Equal(i.Certificate, certificate) })
	if i < 0 {
		return nil, false
	}
	chain := h.authority.Chain(issuers[i].ID)
	return chain, len(chain) > 0
}

// Roots implements wire.CT.
func (l *certificateLog) Roots() (roots [][]byte) {
	issuers, err := l.house.authority.Issuers(context.Background())
	if err != nil {
		return nil
	}
	seen := map[[sha256.Size]byte]bool{}
	for _, i := range issuers {
		chain := l.house.authority.Chain(i.ID)
		if len(chain) == 0 || seen[sha256.Sum256(chain[len(chain)-1])] {
			continue
		}
		root := chain[len(chain)-1]
		seen[sha256.Sum256(root)] = true
		roots = append(roots, root)
	}
	return roots
}

// Data implements wire.CT: the certificates name devices.
func (l *certificateLog) Data(ctx context.Context, index uint64, partial uint8) ([]byte, error) {
	if !l.public {
		return nil, fault.New(fault.NotFound, "no-tile", "The entries of this log are not public.")
	}
	return l.CT.Data(ctx, index, partial)
}

// writeLogs keeps the logs of a house while this process leads.
func (h *house) writeLogs(ctx context.Context, log *slog.Logger) {
	if h.log.sequencer == nil {
		log.Error("the log of issuance is not written", "idScope", h.idScope, "problem", h.log.problem)
		if h.ct == nil {
			return
		}
	}
	h.log.inventory.Lead(ctx, func(ctx context.Context) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			if h.ct != nil {
				h.ct.Run(ctx, log)
			}
		}()
		if h.log.sequencer != nil {
			h.log.sequencer.Run(ctx, log)
		}
		<-done
	})
}
