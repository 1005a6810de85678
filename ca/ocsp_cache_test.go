package ca

import (
	"fmt"
	"testing"
)

func TestAnswersAreKeptInBoundedMemoryTheOnesUsedLast(t *testing.T) {
	const most = 100 << 10
	c := newAnswerCache(most)
	key := func(n int) answerKey { return answerKey{"issuer", fmt.Sprint("cert ", n)} }
	put := func(n int) { c.put(keptAnswer{key: key(n), OCSPAnswer: OCSPAnswer{DER: make([]byte, 800)}}) }
	put(0)
	for n := 1; n <= 10_000; n++ {
		put(n)
		put(n) // in its own place
		if c.get(key(0)).DER == nil {
			t.Fatalf("the one that is used all the time is gone after %d", n)
		}
		if c.size > most || len(c.byKey) != c.order.Len() {
			t.Fatalf("%d octets, %d keys, %d answers", c.size, len(c.byKey), c.order.Len())
		}
	}
	if c.get(key(1)).DER != nil {
		t.Error("the oldest is still there")
	}
	if len(c.get(key(10_000)).DER) != 800 {
		t.Error("the last is not there")
	}
}
