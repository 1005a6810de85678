//go:build !linux

package instance

import "os/exec"

// dieWithParent does nothing: other kernels do not know a parent's death signal.
func dieWithParent(*exec.Cmd) {}
