package firstboot

import "github.com/prose-im/prose-image/firstboot/status"

// setupItem is of the machine's files that could not be written. Before there is
// a domain it is the one that remembers it.
func setupItem(w seen) status.Item {
	if w.state.Domain != "" {
		return unwritten(w.errs[itemSetup])
	}
	e := w.errs[itemSettings]
	if e == "" {
		return status.Item{}
	}
	it := item(status.Failed, "The machine cannot be set up.")
	it.Why = sentence(e)
	return it
}

func wallsItem(w seen) status.Item { return unwritten(w.errs[itemWalls]) }

func unwritten(err string) status.Item {
	if err == "" {
		return status.Item{}
	}
	it := item(status.Failed, "The machine cannot be set up as it should be.")
	it.Why = sentence(err)
	it.Do, it.Type = "If the disk is full, make room, or make it larger at your provider. See what the machine tried:", []string{"df -h /", "sudo journalctl -u prose-firstboot -n 30"}
	return it
}
