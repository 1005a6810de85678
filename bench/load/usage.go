package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// usage is what a process has used so far. The kernel counts CPU time in ticks of
// 10 ms: measure many requests.
type usage struct {
	cpu       time.Duration
	rss, peak float64 // MiB
}

// usageOf reads /proc; the zero usage for pid 0 and where there is no such process.
func usageOf(pid int) (u usage) {
	const tick = 10 * time.Millisecond
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u
	}
	// The command's name, in parentheses, may hold blanks: count from behind it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, f := range fields[11:13] { // utime, stime: proc(5)
		n, _ := strconv.ParseInt(f, 10, 64) // the kernel writes numbers
		u.cpu += time.Duration(n) * tick
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // as above
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64) // 0 for lines of other kinds
		switch name {
		case "VmRSS":
			u.rss = kib / 1024
		case "VmHWM":
			u.peak = kib / 1024
		}
	}
	return u
}
