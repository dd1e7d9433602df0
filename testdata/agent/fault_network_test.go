package agenttest

import (
	"slices"
	"strings"
	"testing"

	"github.com/prose-im/prose-image/firstboot/status"
)

func (b *faulty) noNetwork(t *testing.T) {
	b.within("ip", "link", "set", "eth0", "down")
	b.until(t, "the Pod answers without a network", func(s status.Status, code int) bool {
		return code == 2 && item(s, "pod").Progress == status.Done && strings.Contains(item(s, "dns").What, "does not answer")
	})
	b.ordered(t)
	b.linkUp()
}

func (b *faulty) awayAndBack(t *testing.T) {
	before, err := b.serials()
	if err != nil {
		t.Fatal(err)
	}
	b.world.records(elsewhere, names...)
	b.forget()
	b.until(t, "it says that DNS leads elsewhere", func(s status.Status, code int) bool {
		return code == 2 && len(wrong(s)) >= 2 && item(s, "copy").Key == ""
	})
	after, err := b.serials()
	if d := differences(before, after); err != nil || len(d) > 0 {
		t.Errorf("other certificates for %v, %v", d, err)
	}
	b.world.records(address, names...)
	b.forget()
	b.ready(t)
	b.ordered(t)
}

// linkUp is a network that is there again.
func (b *box) linkUp() {
	b.within("ip", "link", "set", "eth0", "up")
	b.within("ip", "route", "replace", outside, "dev", "eth0")
	b.within("ip", "route", "replace", "default", "via", outside)
}

// wrong are the records that lead elsewhere.
func wrong(s status.Status) []status.Record {
	return slices.DeleteFunc(slices.Clone(s.Records), func(r status.Record) bool { return r.State != status.Wrong })
}
