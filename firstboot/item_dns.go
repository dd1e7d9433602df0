package firstboot

import (
	"fmt"
	"strings"
	"time"

	"github.com/prose-im/prose-image/firstboot/status"
)

func dnsItem(w seen) status.Item {
	missing, wrong, unknown, optional := 0, 0, 0, 0
	for _, r := range w.records {
		switch {
		case r.State == status.Present:
		case r.Name == w.settings.Domain && r.Type != "CAA" && elsewhere(w.world):
			// The domain's own item says what to do about it.
		case r.Optional:
			optional++
		case r.State == status.Missing:
			missing++
		case r.State == status.Wrong:
			wrong++
		default:
			unknown++
		}
	}
	if missing+wrong > 0 {
		var parts []string
		if missing > 0 {
			parts = append(parts, isOrAre(missing)+" missing")
		}
		if wrong > 0 {
			parts = append(parts, isOrAre(wrong)+" wrong")
		}
		it := item(status.Owner, fmt.Sprintf("Of the records that %s needs, %s.", w.settings.Domain, strings.Join(parts, " and ")))
		it.Why = "Without them nobody finds this machine, and no authority signs certificates for it."
		it.Do = "Log in at the provider of the domain " + w.settings.Domain + ", open its DNS settings, and add the records below. "
		if wrong > 0 {
			it.Do += "Remove what is there instead, such as addresses of another machine. "
		}
		it.Do += "It can take an hour until the world sees a change."
		it.Again = w.now.Add(lookSoon).UTC().Truncate(time.Second)
		return it
	}
	if unknown > 0 {
		it := item(status.Doing, "DNS does not answer yet.")
		it.Why = "The machine asks the name servers that its network gave it."
		it.Again = w.now.Add(lookSoon).UTC().Truncate(time.Second)
		return it
	}
	it := item(status.Done, "All records that are needed are there.")
	if optional > 0 {
		it.Points = []string{fmt.Sprintf("%s would make it better; see below.", count(optional, "more record"))}
	}
	return it
}

func isOrAre(n int) string {
	if n == 1 {
		return "1 is"
	}
	return fmt.Sprintf("%d are", n)
}
