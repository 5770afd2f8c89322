package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestMachinesThatWait: how many admin connections wait for a session, for how long,
// and which one it gets.
func TestMachinesThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := machines{life: machineLife}
		of := func(at string) *machineAdmin { return &machineAdmin{at: at, to: &m} }
		var surplus []*machineAdmin
		all := []*machineAdmin{of("a"), of("b"), of("a"), of("c"), of("d")}
		for _, a := range all {
			surplus = append(surplus, m.put(a)...)
			time.Sleep(time.Second)
		}
		if len(surplus) != 1 || surplus[0] != all[0] {
			t.Errorf("too much are %v, want the oldest", surplus)
		}
		if got := m.take("a"); got != all[2] {
			t.Errorf("got %v, want the last one of that machine", got)
		}
		if got := m.take("a"); got != nil {
			t.Errorf("got %v of a machine that none is left of", got)
		}
		time.Sleep(machineLife/2 - 2*time.Second)
		if old := m.old(false); len(old) != 2 || old[0] != all[1] || old[1] != all[3] {
			t.Errorf("old are %v, want all but the last", old)
		}
		if old := m.old(true); len(old) != 1 {
			t.Errorf("at the end %v are closed", old)
		}
		if late := m.put(all[1]); len(late) != 1 {
			t.Error("a connection was kept after the end")
		}
	})
}
