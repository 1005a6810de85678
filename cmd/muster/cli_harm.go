package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/passmuster/muster/internal/fault"
)

// harm is taken by commands that shut something out: on a terminal the name is typed,
// elsewhere --yes stands for it.
type harm struct {
	Yes bool `help:"Do not ask (needed where there is no terminal)."`
}

// confirmed returns nil when the harm is meant. what says what will happen.
func (h harm) confirmed(s streams, name, what string) error {
	if h.Yes {
		return nil
	}
	if !isTerminal(s.In) {
		return fault.New(fault.Malformed, "needs-yes", "%s, and nobody can be asked here: add --yes", what)
	}
	return typed(s.In, s.Err, name, what)
}

func typed(in io.Reader, out io.Writer, name, what string) error {
	fmt.Fprintf(out, "%s.\nType %s to go on: ", what, name)
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && line == "" || strings.TrimSpace(line) != name {
		return fault.New(fault.Internal, "not-confirmed", "nothing was changed")
	}
	return nil
}
