package firstboot

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prose-im/prose-image/firstboot/status"
)

// A seen is what items are made of.
type seen struct {
	*world
	step    step              // what follows
	errs    map[string]string // what went wrong in this run, by the key of an item
	records []status.Record
}

// kinds are the items in the order in which things come about. of makes one, or
// none: that has no progress.
var kinds = []struct {
	key, title string
	early      bool // shown before the machine knows its domain, too
	of         func(w seen) status.Item
}{
	{itemSettings, "Settings", true, settingsItem},
	{itemDisk, "Disk", true, readOnlyItem},
	{itemClock, "Clock", true, clockItem},
	{itemCopy, "Copy", false, copyItem},
	{itemNGINX, "Web server", false, nginxItem},
	{itemPod, "Prose Pod", false, podItem},
	{itemDNS, "DNS records", false, dnsItem},
	{itemApex, "Domain", false, apexItem},
	{itemCertificates, "Certificates", false, certificatesItem},
	{itemAccount, "First account", false, accountItem},
	{itemSetup, "Files", true, setupItem},
	{itemWalls, "Packet filter", false, wallsItem},
	{itemDisk, "Disk", false, fullItem},
	{itemReboot, "Restart", false, rebootItem},
	{itemAlerts, "Alerts", false, alertsItem},
}

// title is an item's name, as people read it.
func title(key string) string {
	for _, k := range kinds {
		if k.key == key {
			return k.title
		}
	}
	return ""
}

// item is one without its name, which kinds has.
func item(p status.Progress, what string) status.Item {
	return status.Item{Progress: p, What: what}
}

// items is the list for what was seen.
func items(w seen) []status.Item {
	var list []status.Item
	for _, k := range kinds {
		if w.state.Domain == "" && !k.early {
			continue
		}
		it := k.of(w)
		if it.Progress == "" {
			continue
		}
		it.Key, it.Title = k.key, k.title
		if it.Progress == status.Failed && it.Again.IsZero() {
			it.Again = w.now.Add(timerEvery).UTC().Truncate(time.Second)
		}
		list = append(list, it)
	}
	return list
}

// sentence makes an error message one: a capital letter and a full stop.
func sentence(s string) string {
	s = strings.TrimSpace(strings.ReplaceAll(s, "\n", "; "))
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + strings.TrimSuffix(s[1:], ".") + "."
}

// overall is the state that the items make. The first account is the owner's
// business and keeps nobody from chatting that it lets in: it does not count. A
// restart that is due is a note.
func overall(w *world, list []status.Item) status.State {
	has := func(p status.Progress) bool {
		return slices.ContainsFunc(list, func(it status.Item) bool { return it.Progress == p && it.Key != itemAccount && it.Key != itemReboot })
	}
	accountFailed := slices.ContainsFunc(list, func(it status.Item) bool { return it.Key == itemAccount && it.Progress == status.Failed })
	serving := w.configured() && w.pod.ready
	if w.configured() && w.state.Domain == "" && !has(status.Owner) {
		return status.Working // it has only just heard
	}
	// Once it was ready, a machine that serves is never less than degraded.
	was := !w.state.Ready.IsZero() && serving
	switch {
	case has(status.Failed) && !serving:
		return status.Broken
	case was && (has(status.Failed) || has(status.Owner) || has(status.Doing)):
		return status.Degraded
	case has(status.Owner):
		return status.Waiting
	case has(status.Failed):
		return status.Degraded
	case has(status.Doing):
		return status.Working
	case has(status.Warning), accountFailed:
		return status.Degraded
	}
	return status.Ready
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func day(t time.Time) string { return t.UTC().Format("2 January 2006") }
