package instance

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process has used so far. The kernel counts CPU time in ticks of
// 10 ms: measure many requests.
type Usage struct {
	CPU       time.Duration
	RSS, Peak float64 // MiB
}

// UsageOf reads /proc; the zero Usage for pid 0 and where there is no such process.
func UsageOf(pid int) (u Usage) {
	const tick = 10 * time.Millisecond
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return u
	}
	// The command's name, in parentheses, may hold blanks: count from behind it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, f := range fields[11:13] { // utime, stime: proc(5)
		n, _ := strconv.ParseInt(f, 10, 64) // the kernel writes numbers
		u.CPU += time.Duration(n) * tick
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)) // as above
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64) // 0 for lines of other kinds
		switch name {
		case "VmRSS":
			u.RSS = kib / 1024
		case "VmHWM":
			u.Peak = kib / 1024
		}
	}
	return u
}
