package main

import (
	"fmt"
	"strings"
)

// hubTakes is how long a hub that lives elsewhere will take, as the API has it.
type hubTakes struct {
	Ahead          *int64
	RatePerMinute  int
	Circuit, Takes string
}

// span is the time it takes as people write it.
func (h hubTakes) span() string {
	return strings.ToLower(strings.TrimPrefix(strings.TrimPrefix(h.Takes, "P"), "T"))
}

// words say how long, and what stands in the way; none of the built-in hub.
func (h hubTakes) words() (list []string) {
	if h.Ahead == nil {
		return nil
	}
	if h.Takes == "" {
		list = append(list, "as fast as it answers")
	} else {
		list = append(list, fmt.Sprintf("%s at %d calls a minute", h.span(), h.RatePerMinute))
	}
	if h.Circuit != "closed" {
		list = append(list, "but it does not answer now")
	}
	return list
}
