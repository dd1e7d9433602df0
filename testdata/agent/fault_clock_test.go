package agenttest

import (
	"testing"

	"github.com/prose-im/prose-image/firstboot/status"
)

func (b *faulty) earlyClock(t *testing.T) {
	b.forget()
	b.Run(t, "sh", "-ec", "find /etc/letsencrypt -mindepth 1 -delete; touch -d '2 days' /usr/bin/prose-firstboot")
	before, _ := b.world.ordered()
	for range 3 {
		b.until(t, "it says that the clock is wrong", func(s status.Status, code int) bool {
			return code == 2 && item(s, "pod").Progress == status.Done && item(s, "clock").Progress == status.Doing
		})
	}
	if after, _ := b.world.ordered(); len(after) != len(before) {
		t.Errorf("orders by a wrong clock: %v", after)
	}
	b.Run(t, "touch", "-d", "1 hour ago", "/usr/bin/prose-firstboot")
	b.forgetLooks(t)
	b.ready(t)
	b.want = len(names)
	b.ordered(t)
	b.serves(t)
}
