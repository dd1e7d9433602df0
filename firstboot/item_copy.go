package firstboot

import (
	"strings"
	"time"

	"github.com/prose-im/prose-image/firstboot/status"
)

// copyItem is of a machine whose disk was another's.
func copyItem(w seen) status.Item {
	if !w.copied() && w.state.Copied.IsZero() {
		return status.Item{}
	}
	d := w.settings.Domain
	if w.copied() {
		it := item(status.Doing, "The disk of this machine is a copy of another's that was set up for "+d+". It becomes a machine of its own.")
		if e := w.errs[itemCopy]; e != "" {
			it.Progress, it.Why = status.Failed, sentence(e)
		}
		return it
	}
	it := item(status.Owner, "The disk of this machine is a copy of another's that was set up for "+d+". Until DNS leads here it orders no certificates.")
	if away := w.reach.away(d); len(away) > 0 {
		it.Why = "DNS leads " + d + " to " + strings.Join(away, " and ") + "."
	}
	it.Do = "If it shall take over, change the DNS records below and switch the other one off. If not, let it forget everything and begin anew:"
	it.Type = []string{"sudo prose-firstboot reset"}
	it.Again = w.now.Add(lookSoon).UTC().Truncate(time.Second)
	return it
}
