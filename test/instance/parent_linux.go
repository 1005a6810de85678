package instance

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel end the child when its parent ends.
func dieWithParent(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
