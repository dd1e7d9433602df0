package firstboot

import (
	"maps"
	"slices"
	"time"

	"github.com/prose-im/prose-image/firstboot/status"
)

func alertsItem(w seen) status.Item {
	if len(w.untold) == 0 {
		return status.Item{}
	}
	it := item(status.Warning, "The machine cannot tell you of troubles: "+count(len(w.untold), "way")+" to you did not work.")
	for _, name := range slices.Sorted(maps.Keys(w.untold)) {
		c := w.untold[name]
		it.Points = append(it.Points, "By "+name+": "+sentence(c.Error))
		if it.Again.IsZero() || c.Again.Before(it.Again) {
			it.Again = c.Again.UTC().Truncate(time.Second)
		}
	}
	it.Do = "Correct smtp.* for mail, or alerts.webhook, in the settings."
	return it
}
