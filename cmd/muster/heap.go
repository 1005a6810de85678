package main

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// settleHeap gives back what starting needed: the migrations' 4 MiB buffers alone are
// most of the heap, and a sync.Pool lets go at the second collection. What then lives is
// little, some 8 MiB, and a registration with a certificate makes 70 KiB of garbage (store
// design §7): a larger heap target saves 3 to 4 % of the CPU over 150, for some 20 MiB while
// there is load; giveBack returns them after it.
func settleHeap() {
	runtime.GC()
	debug.FreeOSMemory()
	debug.SetGCPercent(300)
}

const (
	quiet = 10 * time.Second // without a collection
	spare = 16 << 20         // what a quiet process may hold beyond what lives
)

// giveBack returns memory to the system when a storm is over, until the context ends: a heap
// that has grown to two and a half times what lives would else stay as large while thousands
// of connections idle.
func giveBack(ctx context.Context) {
	samples := []metrics.Sample{
		{Name: "/gc/cycles/automatic:gc-cycles"}, {Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
	}
	tick := time.NewTicker(quiet)
	defer tick.Stop()
	for collections := uint64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(samples)
		now, lives := samples[0].Value.Uint64(), samples[1].Value.Uint64()
		held := samples[2].Value.Uint64() + samples[3].Value.Uint64() + samples[4].Value.Uint64()
		if now == collections && held > lives+spare {
			runtime.GC() // a sync.Pool lets go at the second collection
			debug.FreeOSMemory()
		}
		collections = now
	}
}
