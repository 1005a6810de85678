package main

import (
	"context"
	"time"

	"github.com/passmuster/muster/ca/keys"
)

// keyRetryEvery is how often a key device that is away is asked whether it is back, beside
// every request that needs it.
const keyRetryEvery = 5 * time.Second

// openKeys joins the keys folder with the device that the configuration names. The houses
// of one process share a device: the first opens it, and closes it.
func (h *house) openKeys(folder *keys.Folder) (kept *keys.Keeper, err error) {
	if h.config.device == nil && h.config.Keys.URI != "" {
		if h.config.device, err = keys.OpenDevice(h.config.Keys.URI, h.config.Keys.PINFile); err != nil {
			return nil, err
		}
		h.ownsDevice = true
	}
	return keys.Keep(folder, h.config.device), nil
}

func (h *house) closeKeys() error {
	if !h.ownsDevice {
		return nil
	}
	return h.config.device.Close()
}

// keyProblem is why the issuers' keys cannot sign now; nil when they can, or live in files.
func (h *house) keyProblem() error {
	if h.config.device == nil {
		return nil
	}
	return h.config.device.Problem()
}

// retryKeys connects to the key device again if it was away, and makes up for what could
// not be signed at the start.
func (s *server) retryKeys(ctx context.Context) {
	own := s.houses[0]
	if own.keyProblem() != nil {
		if err := own.config.device.Retry(); err != nil {
			s.log.Error("the key device is away: nothing is signed", "problem", err)
			return
		}
		s.log.Info("the key device is back")
		for _, h := range s.houses {
			s.nudge(h)
		}
	}
	if s.cert.absent() {
		if err := s.cert.load(ctx); err != nil {
			s.log.Error("making the server certificate", "problem", err)
		}
	}
}
