package firstboot

import (
	"time"

	"github.com/prose-im/prose-image/firstboot/certificate"
	"github.com/prose-im/prose-image/firstboot/status"
)

// A step is one thing to do. Its key is of the item in the status that it
// belongs to.
type step struct {
	key  string
	what string // for the log: begins small, no full stop
	do   action
	cert certificate.Step // of keep
	file file             // of writeFile
	// until is when to look again at the latest, of idle.
	until time.Time
}

// An action is a kind of step.
type action string

const (
	idle           action = "idle"
	remember       action = "remember the domain"
	adopt          action = "remember which machine this is"
	takeOver       action = "take over from the original"
	makeDoorKey    action = "make the door's key"
	mendDoor       action = "mend the door"
	writeFile      action = "write a file"
	keep           action = "keep certificates"
	startPod       action = "bring the Pod up"
	writeSite      action = "give NGINX its sites"
	writeWalls     action = "set the walls"
	writeResolvers action = "name the resolvers"
	firstAdmin     action = "create the first account"
	openDoor       action = "open the dashboard"
	closeDoor      action = "close the dashboard"
	applyConfig    action = "have the Pod read its configuration"
	beginAgain     action = "have the Pod begin again"

	becomeItself action = "become a machine of its own"
	erase        action = "go back to the beginning"
)

// The items of the status.
const (
	itemSettings     = "settings"
	itemCopy         = "copy"
	itemClock        = "clock"
	itemDisk         = "disk"
	itemSetup        = "setup"
	itemCertificates = "certificates"
	itemDNS          = "dns"
	itemNGINX        = "nginx"
	itemPod          = "pod"
	itemAccount      = "account"
	itemApex         = status.KeyApex
	itemWalls        = "walls"
	itemReboot       = "reboot"
	itemAlerts       = "alerts"
)

// next decides: the first thing that is not as it should be, in an order in
// which nobody waits for what comes later. failed are the actions that did not
// work in this run; they get their next try in the next one, and hold up only
// what needs them.
func next(w *world, failed map[action]bool) step {
	if !w.configured() {
		return step{do: idle, until: w.now.Add(longest)}
	}
	// With wrong settings, what runs is kept running and nothing else is done.
	if w.state.Domain == "" {
		if w.held() || failed[remember] {
			return step{do: idle, until: w.now.Add(longest)}
		}
		return step{key: itemSettings, what: "setting up for " + w.settings.Domain, do: remember}
	}
	can := func(a action) bool { return !failed[a] }

	if w.state.Reset {
		if can(erase) {
			return step{key: itemSettings, what: "going back to the beginning", do: erase}
		}
		return step{do: idle, until: w.now.Add(longest)}
	}
	switch {
	case w.copied() && can(becomeItself):
		return step{key: itemCopy, what: "becoming a machine of its own: the disk was another's", do: becomeItself}
	case w.unknown() && can(adopt):
		return step{key: itemSetup, what: "remembering which machine this is", do: adopt}
	case !w.state.Copied.IsZero() && w.reach.leadsHere(w.state.Domain) && can(takeOver):
		return step{key: itemCopy, what: "taking over from the original: DNS leads here", do: takeOver}
	}
	if !w.held() {
		switch {
		case !w.doorKey && can(makeDoorKey):
			return step{key: itemAccount, what: "making the door's key", do: makeDoorKey}
		case w.resolvers != nil && (!w.resolversAre || w.state.Resolvers != digest(w.resolvers)) && can(writeResolvers):
			return step{key: itemSetup, what: "naming the resolvers", do: writeResolvers}
		case len(w.wrong) > 0 && can(writeFile):
			return step{key: itemSetup, what: "writing " + w.wrong[0].path, do: writeFile, file: w.wrong[0]}
		}
	}
	if w.doorErr != nil && can(mendDoor) {
		return step{key: itemSetup, what: "mending the door: " + w.doorErr.Error(), do: mendDoor}
	}
	cert := w.keeper.Next(w.certs)
	switch cert.Action {
	case certificate.Interim, certificate.Restore, certificate.Bring:
		if can(keep) {
			return step{key: itemCertificates, what: words(cert), do: keep, cert: cert}
		}
	case certificate.CopyProsody:
		if can(keep) {
			return step{key: itemSetup, what: words(cert), do: keep, cert: cert}
		}
	}
	// What was set up before goes on with wrong settings too.
	// So does what runs when the disk is full.
	ready := w.held() || len(w.wrong) == 0 || !can(writeFile) && !w.state.Ready.IsZero()
	switch {
	case !w.off && !w.pod.busy && !w.pod.ready && w.pod.err == nil && ready && can(startPod):
		return step{key: itemPod, what: "looking after the Pod", do: startPod}
	case !w.siteTaken() && w.doorKey && can(writeSite):
		return step{key: itemNGINX, what: "giving NGINX its sites", do: writeSite}
	case (!w.wallsAre || w.state.Walls != digest(w.walls)) && !w.held() && can(writeWalls):
		return step{key: itemWalls, what: "setting the walls", do: writeWalls}
	}
	// A factory reset empties prose.toml, and the Pod waits until it is told that
	// there is one again.
	if w.pod.waiting && !w.pod.started.IsZero() && w.pod.started.Before(w.state.ConfigAt) && ready && can(beginAgain) {
		return step{key: itemPod, what: "having the Pod begin again: it has not read its configuration", do: beginAgain}
	}
	if w.pod.ready {
		switch {
		case !w.pod.started.IsZero() && w.pod.started.Before(w.state.ConfigAt) && can(applyConfig):
			return step{key: itemPod, what: "having the Pod read its new configuration", do: applyConfig}
		case w.pod.account == nil:
		case *w.pod.account && !w.state.Account && can(openDoor):
			return step{key: itemAccount, what: "opening the dashboard: an account exists", do: openDoor}
		case !*w.pod.account && w.state.Account && can(closeDoor):
			return step{key: itemAccount, what: "closing the dashboard: no account exists any more", do: closeDoor}
		case !*w.pod.account && w.settings.Admin.Username != "" && !w.held() && can(firstAdmin):
			return step{key: itemAccount, what: "creating the first account", do: firstAdmin}
		}
	}
	// Where nobody answers, looking at all names takes longer than a look holds.
	// The next run goes on: it looks after the Pod first.
	again := cert.Action == certificate.CheckDNS && w.checked[cert.Host] && !w.pod.busy
	// Nobody waits for when the authority wants renewals, but for the Pod.
	later := cert.Action == certificate.AskRenewal && w.pod.busy
	if cert.Action != certificate.Idle && !again && !later && can(keep) && !(asks(cert.Action) && (w.copied() || w.clock.holds())) {
		return step{key: itemCertificates, what: words(cert), do: keep, cert: cert}
	}
	until := w.now.Add(longest)
	if !cert.Until.IsZero() && cert.Until.Before(until) {
		until = cert.Until
	}
	return step{do: idle, until: until}
}

// asks says whether a step asks an authority, which it must not do with somebody
// else's account or by a wrong clock.
func asks(a certificate.Action) bool {
	return a == certificate.CheckDNS || a == certificate.GetOne || a == certificate.AskRenewal
}

// longest is how long a look holds.
const longest = time.Minute

func words(s certificate.Step) string {
	what := map[certificate.Action]string{
		certificate.Interim:       "making a certificate for the time being for ",
		certificate.Bring:         "installing your own certificate of ",
		certificate.Restore:       "bringing back the certificate of ",
		certificate.CopyProsody:   "giving Prosody the certificate of ",
		certificate.ReloadNGINX:   "having NGINX read the certificate of ",
		certificate.ReloadProsody: "having Prosody read the certificate of ",
		certificate.CheckDNS:      "looking whether an authority will find ",
		certificate.GetOne:        "getting a certificate for ",
		certificate.AskRenewal:    "asking when to renew the certificate of ",
	}[s.Action] + s.Host
	if s.Why != "" {
		what += ": " + s.Why
	}
	return what
}
