package firstboot

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prose-im/prose-image/firstboot/alert"
	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/status"
)

// A disk needs a look above full, and again less than that for it to be over.
const (
	full       = 85 // per cent
	fullNoMore = 80
)

// matters are the things that people are told of who do not look. was says of a
// key that it was told of, right of a record that it was right once.
func matters(w *world, list []status.Item, records []status.Record, was func(key string) bool, right []string) []alert.Matter {
	var out []alert.Matter
	add := func(key, title, what, why, do string) {
		out = append(out, alert.Matter{Key: key, Title: title, What: what, Why: why, Do: do})
	}
	// as the list says it, with what is to be typed
	from := func(key string, it status.Item) {
		do := it.Do
		if len(it.Type) > 0 {
			do += " " + strings.Join(it.Type, "; ")
		}
		add(key, title(key), it.What, strings.TrimSpace(it.Why+" "+strings.Join(it.Points, " ")), do)
	}
	find := func(key string) (status.Item, bool) {
		i := slices.IndexFunc(list, func(it status.Item) bool { return it.Key == key })
		if i < 0 {
			return status.Item{}, false
		}
		return list[i], true
	}

	if w.held() {
		if it, ok := find(itemSettings); ok {
			from(itemSettings, it)
		}
	}
	// An owner who switched it off knows.
	if !w.pod.ready && !w.off {
		it, _ := find(itemPod)
		if it.Progress != status.Failed {
			it.What, it.Do = "The Pod does not answer.", "The machine is starting it again. See how far it is: prose-firstboot status"
		}
		from(itemPod, it)
	}
	for _, r := range records {
		key := "record " + recordKey(r)
		gone := r.State == status.Missing || r.State == status.Wrong
		// As long as DNS says nothing, what was stays.
		if !gone && (r.State != status.Unknown || !was(key)) || !slices.Contains(right, recordKey(r)) {
			continue
		}
		what := fmt.Sprintf("The %s record of %s was right and is %s.", r.Type, r.Name, r.State)
		if len(r.Found) > 0 {
			what += " DNS says: " + strings.Join(r.Found, ", ") + "."
		}
		should := r.Data
		if should == "" {
			should = r.Hint
		}
		add(key, "DNS record", what, "It is for: "+r.For+".", "Where you manage the DNS of "+w.settings.Domain+", make it: "+should)
	}
	for _, n := range w.keeper.Settings.Names {
		if !needed(w, n.Host) {
			continue
		}
		if what, why := troubled(n.Host, w.certs[n.Host], w.now); what != "" {
			add("certificate "+n.Host, "Certificate of "+n.Host, what, why, "See what is in the way: prose-firstboot status")
		}
	}
	if w.disk.percent() > full || was(itemDisk) && w.disk.percent() > fullNoMore {
		from(itemDisk, diskItem(w.disk))
	}
	if w.reboot {
		from(itemReboot, rebootItem(seen{world: w}))
	}
	return out
}

// troubled says what is wrong with a name's certificate so that somebody has to
// know, or nothing.
func troubled(host string, st certificate.State, now time.Time) (what, why string) {
	if n := len(st.Record.Failures); n > 0 {
		why = sentence(st.Record.Failures[n-1].Why)
	}
	live := st.Live
	if !live.Signed || !live.Valid(now) {
		return "Browsers and apps do not trust this machine any more: no certificate is valid.", why
	}
	due := certificate.RenewAt(live, st.Record.Renewal)
	until := live.NotAfter.UTC().Format("2 January 2006, 15:04") + " UTC"
	// Long is a day, and less for certificates that live for days.
	long := min(24*time.Hour, live.NotAfter.Sub(live.NotBefore)/12)
	switch {
	case len(st.Record.Failures) > 0 && now.Sub(due) > long:
		return fmt.Sprintf("Its renewal was due on %s and has failed since. It is good until %s.", due.UTC().Format("2 January"), until), why
	case now.After(due) && live.NotAfter.Sub(now) < live.NotAfter.Sub(due)/3:
		return "It has not been renewed, and is good only until " + until + ".", why
	}
	return "", ""
}

func recordKey(r status.Record) string { return r.Type + " " + r.Name }

// rightOnce adds the records that are right to those that were.
func rightOnce(before []string, records []status.Record) []string {
	out := slices.Clone(before)
	for _, r := range records {
		if key := recordKey(r); r.State == status.Present && !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	return out
}
