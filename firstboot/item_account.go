package firstboot

import (
	"github.com/prose-im/prose-image/firstboot/status"
)

func accountItem(w seen) status.Item {
	switch {
	case w.errs[itemAccount] != "":
		it := item(status.Failed, "The first account could not be made.")
		it.Why = sentence(w.errs[itemAccount])
		it.Do, it.Type = "Make it yourself, with the one-time link of this command:", []string{"sudo prose-firstboot link"}
		return it
	case w.state.Account:
		return item(status.Done, "An account exists; the dashboard is open to its owner.")
	case w.settings.Admin.Username != "":
		return item(status.Doing, "The account "+w.settings.Admin.Username+"@"+w.settings.Domain+" is made when the Pod answers.")
	}
	it := item(status.Owner, "Nobody has made the first account yet. Until then the dashboard is locked.")
	it.Why = "Whoever makes the first account becomes administrator, so only the owner may."
	it.Do, it.Type = "Open the one-time link that the machine's console shows, or log in over SSH and ask for one:", []string{"sudo prose-firstboot link"}
	return it
}
