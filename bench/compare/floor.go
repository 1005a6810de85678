package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// floor is the floor at work.
type floor struct {
	cmd    *exec.Cmd
	url    string
	caFile string
}

// startFloor starts the floor and waits until it answers. It listens on a port and the
// one above it.
func startFloor(binary, dir string) (*floor, error) {
	addr, err := twoPorts()
	if err != nil {
		return nil, err
	}
	f := &floor{url: "https://" + addr, caFile: filepath.Join(dir, "ca.crt")}
	f.cmd = exec.Command(binary, "floor", "-addr", addr, "-dir", dir, "-device-ca", filepath.Join(dir, "devices.crt"))
	var said strings.Builder
	f.cmd.Stdout, f.cmd.Stderr = &said, &said
	if err := f.cmd.Start(); err != nil {
		return nil, err
	}
	_, plain := beside(addr)
	for range 100 {
		resp, err := http.Get("http://" + plain + "/ping")
		if err == nil {
			_ = resp.Body.Close() // nothing was read
			return f, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	f.stop()
	return nil, fmt.Errorf("the floor does not answer; it said: %s", said.String())
}

func (f *floor) stop() {
	_ = f.cmd.Process.Kill() // it has no other way to end
	_ = f.cmd.Wait()
}

// twoPorts finds a loopback address whose next port is free too.
func twoPorts() (string, error) {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		addr := l.Addr().String()
		_ = l.Close() // what matters is that it could be opened
		_, plain := beside(addr)
		if l, err := net.Listen("tcp", plain); err == nil {
			_ = l.Close() // as above
			return addr, nil
		}
	}
	return "", errors.New("no two ports side by side are free")
}

// beside returns an address and the one with the next port.
func beside(addr string) (string, string) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return addr, fmt.Sprintf("%s:%d", a.IP, a.Port+1)
}
