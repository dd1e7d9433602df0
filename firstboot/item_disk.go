package firstboot

import (
	"fmt"
	"strings"

	"github.com/prose-im/prose-image/firstboot/status"
)

func readOnlyItem(w seen) status.Item {
	if len(w.readOnly) == 0 {
		return status.Item{}
	}
	it := item(status.Failed, "The disk cannot be written. What runs goes on for now, and nothing new is kept.")
	it.Why = "Read-only are " + strings.Join(w.readOnly, ", ") + ". A disk that has failed makes itself read-only."
	it.Do, it.Type = "Make a copy of what matters, and see what the kernel says; a reboot checks the disk:", []string{"sudo dmesg --level=err", "sudo reboot"}
	return it
}

// fullItem is of a disk that has no room but can be written.
func fullItem(w seen) status.Item {
	if w.disk.percent() <= full || len(w.readOnly) > 0 {
		return status.Item{}
	}
	return diskItem(w.disk)
}

func diskItem(d disk) status.Item {
	it := item(status.Warning, fmt.Sprintf("The disk is %d %% full.", d.percent()))
	it.Why = "When it is full, nobody can send messages or files, and certificates cannot be renewed."
	it.Do = "Make the disk larger at your provider and restart the machine, which then uses all of it; or see what takes the room:"
	it.Type = []string{"sudo du -xh --max-depth=3 / | sort -h | tail -n 20"}
	return it
}
