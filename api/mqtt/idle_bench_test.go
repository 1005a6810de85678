package mqtt

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

// holdAt makes this test program hold connections to an address instead of testing: a
// client's half of TLS must not be counted.
const holdAt = "MUSTER_TEST_HOLD_CONNECTIONS_AT"

func TestMain(m *testing.M) {
	if address := os.Getenv(holdAt); address != "" {
		hold(address)
		return
	}
	os.Exit(m.Run())
}

// hold opens a connection for each line of its input, sends what the line holds, in hex, and
// keeps it until the input ends. It writes a line for each that was answered.
func hold(address string) {
	var open []*tls.Conn
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		conn := must(tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}))
		must(conn.Write(must(hex.DecodeString(in.Text()))))
		for said := []byte{}; !bytes.HasSuffix(said, pingresp); {
			part := make([]byte, 4096)
			said = append(said, part[:must(conn.Read(part))]...)
		}
		open = append(open, conn)
		fmt.Println(len(open))
	}
	runtime.KeepAlive(open)
}

// BenchmarkIdleConnections is what a connection costs that has registered and idles: heap and
// stacks, TLS included. The goal is 40 KiB.
func BenchmarkIdleConnections(b *testing.B) {
	const connections, goal = 1000, 40 << 10
	w := newWorld(b).listen()
	for b.Loop() {
		holder := exec.Command(os.Args[0])
		holder.Env = append(os.Environ(), holdAt+"="+w.tls)
		holder.Stderr = os.Stderr
		in, out := must(holder.StdinPipe()), must(holder.StdoutPipe())
		check(b, holder.Start())
		before := inUse()
		held := bufio.NewScanner(out)
		for i := range connections {
			id := fmt.Sprintf("dev-%d", i)
			hello := w.hello(id)
			hello.keepAlive = 0
			talk := bytes.Join([][]byte{
				hello.bytes(), subscribe(0, answers), publish(2, registerTopic+"?$rid=1", `{"registrationId":"`+id+`"}`), pingreq,
			}, nil)
			must(fmt.Fprintln(in, strings.ToLower(hex.EncodeToString(talk))))
			if !held.Scan() {
				b.Fatal("a connection was not answered")
			}
		}
		cost := (inUse() - before) / connections
		b.ReportMetric(float64(cost), "B/connection")
		if cost > goal {
			b.Errorf("a connection costs %d octets, more than %d", cost, goal)
		}
		check(b, in.Close())
		check(b, holder.Wait())
		w.connections(0)
	}
}

// inUse is the memory of heap and stacks once everything has settled: a stack shrinks by
// half at each collection.
func inUse() int64 {
	for range 6 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
