package agent

import (
	"fmt"
	"net"
	"testing"
	"time"
)

// TestCancelLimiter: guessing is slow for one source and for all together, and a
// source that guesses does not keep others from cancelling.
func TestCancelLimiter(t *testing.T) {
	t.Parallel()
	now := time.Now()
	l := cancelLimiter{now: func() time.Time { return now }}
	from := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 4711} }
	allowed := func(times int, address func(i int) string) (n int) {
		for i := range times {
			if l.allow(from(address(i))) {
				n++
			}
		}
		return n
	}
	one := func(ip string) func(int) string { return func(int) string { return ip } }
	if got := allowed(1000, one("192.0.2.1")); got != cancelsPerSource {
		t.Errorf("%d requests of one source within a moment", got)
	}
	if got := allowed(1, one("192.0.2.2")); got != 1 {
		t.Error("one that asks too often keeps others from cancelling")
	}
	now = now.Add(cancelWindow)
	if got := allowed(60, func(i int) string { return fmt.Sprintf("2001:db8::%x", i) }); got != cancelsPerSource {
		t.Errorf("%d requests of one IPv6 network", got)
	}
	now = now.Add(cancelWindow)
	if got := allowed(2*cancelsAltogether, func(i int) string { return fmt.Sprintf("10.0.%d.%d", i/256, i%256) }); got != cancelsAltogether {
		t.Errorf("%d requests of many sources", got)
	}
}
