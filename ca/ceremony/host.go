package ceremony

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"os"
	"runtime"
)

// Host is the machine and program of a session.
type Host struct {
	Version      string   `json:"version"`      // of Muster
	BinarySHA256 string   `json:"binarySHA256"` // of the program that runs
	Go           string   `json:"go"`
	System       string   `json:"system"`
	Hostname     string   `json:"hostname"`
	Network      []string `json:"network"` // interfaces that are up, but for loopback: none on a machine that is offline
}

// ThisHost looks at the machine and the program.
func ThisHost(version string) (Host, error) {
	h := Host{Version: version, Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Network: []string{}}
	path, err := os.Executable()
	if err != nil {
		return Host{}, err
	}
	file, err := os.Open(path)
	if err != nil {
		return Host{}, err
	}
	defer func() { _ = file.Close() }() // it was only read
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return Host{}, err
	}
	h.BinarySHA256 = hex.EncodeToString(sum.Sum(nil))
	if h.Hostname, err = os.Hostname(); err != nil {
		return Host{}, err
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return Host{}, err
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagUp != 0 && i.Flags&net.FlagLoopback == 0 {
			h.Network = append(h.Network, i.Name)
		}
	}
	return h, nil
}
