package firstboot

import (
	"fmt"

	"github.com/prose-im/prose-image/firstboot/status"
)

// clockItem is of a machine whose clock is before its own making.
func clockItem(w seen) status.Item {
	if !w.clock.early() {
		return status.Item{}
	}
	it := item(status.Doing, fmt.Sprintf("The clock says %s, and this machine's software is from %s.", day(w.now), day(w.clock.made)))
	it.Why = "It waits for the time from the network. Until then no certificates are ordered."
	if !w.clock.holds() {
		it.Progress, it.Why = status.Warning, "No time came from the network. The machine goes on as well as it can; certificates need the right time."
		it.Do, it.Type = "See who gives the time, or set it:", []string{"timedatectl", "sudo timedatectl set-time \"YYYY-MM-DD hh:mm:ss\""}
	}
	return it
}
