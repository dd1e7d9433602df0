package agenttest

import (
	"os"
	"strings"
	"testing"
	"time"
)

// A faulty is a machine that is well, and how often it had to order certificates
// until then.
type faulty struct {
	*box
	want int
}

func (b *faulty) ordered(t *testing.T) {
	t.Helper()
	if of, all := b.world.ordered(); all != b.want {
		t.Errorf("%d orders, want %d: %v", all, b.want, of)
	}
}

// What happens to a machine that is nobody's fault, in the order in which it
// costs least. After each the machine is well again by itself.
var faults = []struct {
	name string
	try  func(*faulty, *testing.T)
}{
	{"no network", (*faulty).noNetwork},
	{"the engine comes late", (*faulty).lateEngine},
	{"a clock before the image", (*faulty).earlyClock},
	{"a full disk", (*faulty).fullDisk},
	{"a root that nobody can write", (*faulty).readOnlyRoot},
	{"another instance-id", (*faulty).anotherInstance},
	{"DNS moves away and comes back", (*faulty).awayAndBack},
	{"a copied disk", (*faulty).copiedDisk},
	{"a copied disk for another domain", (*faulty).copyForAnother},
}

func TestFaults(t *testing.T) {
	b := &faulty{box: newBox(t)}
	b.Write("/etc/machine-id", thisID)
	b.instance("i-1", "")
	b.world.records(address, names...)
	b.settings("")
	b.asked()
	for _, f := range faults {
		begin := time.Now()
		if !t.Run(strings.ReplaceAll(f.name, " ", "_"), func(t *testing.T) { f.try(b, t) }) {
			t.Logf("the agent's part of it:\n%s", b.log.String()[max(0, b.log.Len()-8000):])
			return
		}
		t.Logf("%-34s %v", f.name, time.Since(begin).Round(100*time.Millisecond))
	}
}

// forget lets the agent ask DNS at its next look instead of within the hour.
func (b *box) forget() {
	for _, p := range []string{"run/prose-firstboot/dns.json", "run/prose-firstboot/reach.json"} {
		os.Remove(b.path(p))
	}
}

// forgetLooks lets it look before an order at once instead of within half a
// minute.
func (b *box) forgetLooks(t testing.TB) {
	t.Helper()
	b.Run(t, "sh", "-c", `sed -i 's/"at": "20[0-9][0-9]/"at": "2001/' /var/lib/prose-firstboot/acme/names/*.json`)
}
