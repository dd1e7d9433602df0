package firstboot

import (
	"github.com/prose-im/prose-image/firstboot/status"
)

func rebootItem(w seen) status.Item {
	if !w.reboot {
		return status.Item{}
	}
	it := item(status.Warning, "Security upgrades are installed and wait for a restart.")
	it.Why = "The machine does not restart by itself, because that cuts off everybody for a minute or two."
	it.Do, it.Type = "Restart it when nobody minds:", []string{"sudo reboot"}
	return it
}
