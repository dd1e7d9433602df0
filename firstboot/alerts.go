package firstboot

import (
	"context"
	"encoding/json"
	"os"
	"sync"
	"time"

	"github.com/prose-im/prose-image/firstboot/alert"
	"github.com/prose-im/prose-image/firstboot/settings"
	"github.com/prose-im/prose-image/firstboot/status"
)

// alertsPath holds what people were told, and secrets of who is told.
const alertsPath = stateDir + "/alerts.json"

// An alerter tells people who do not look. It delivers beside the run: what
// answers late holds up nothing but the end of it.
type alerter struct {
	machine *machine
	logf    func(format string, args ...any)

	memory  alert.Memory
	loaded  bool
	sending map[string]bool // ways
	ended   chan delivery
	wg      sync.WaitGroup
}

// A delivery is one that came to an end.
type delivery struct {
	way  alert.Way
	news []alert.Change
	err  error
}

func newAlerter(m *machine, logf func(string, ...any)) *alerter {
	return &alerter{machine: m, logf: logf, sending: map[string]bool{}, ended: make(chan delivery, 8)}
}

// recipients are who the settings want to be told.
func recipients(s settings.Settings) alert.To {
	var to alert.To
	if s.Alerts.Mail != "" {
		to.Mail = alert.Mail{
			To: s.Alerts.Mail, Host: s.SMTP.Host, Port: s.SMTP.Port,
			Username: s.SMTP.Username, Password: s.SMTP.Password.Reveal(), Encrypt: s.SMTP.Encrypt,
		}
	}
	to.Webhook.URL = s.Alerts.Webhook.Reveal()
	return to
}

// load reads what is remembered. What cannot be read is set aside: who was told
// already is told once more.
func (a *alerter) load() {
	if a.loaded {
		return
	}
	a.loaded = true
	b, err := a.machine.read(alertsPath, root)
	if err == nil && b != nil {
		if a.memory, err = alert.Decode(b); err != nil {
			_ = os.Rename(a.machine.path(alertsPath), a.machine.path(alertsPath+".bad"))
		}
	}
	if err != nil {
		a.logf("%v", err)
	}
}

func (a *alerter) save() {
	b, err := json.MarshalIndent(a.memory, "", "  ")
	if err == nil {
		_, err = a.machine.write(alertsPath, append(b, '\n'), 0o600, root)
	}
	if err != nil {
		a.logf("remembering what people were told: %v", err)
	}
}

// look takes up what was found and begins to deliver what is new. Before the
// machine was ready once there is somebody who looks.
func (a *alerter) look(ctx context.Context, w *world, s status.Status) {
	if w.state.Ready.IsZero() {
		return
	}
	a.load()
	changed := a.collect()
	// With wrong settings nobody knows who is meant but who was.
	if !w.held() {
		if to := recipients(w.settings); to != a.memory.To {
			a.memory.To, changed = to, true
		}
	}
	ways := a.memory.To.Ways()
	if len(ways) == 0 {
		if changed || len(a.memory.Matters)+len(a.memory.Channels)+len(a.memory.Right) > 0 {
			a.memory = alert.Memory{Schema: 1}
			a.save()
		}
		return
	}
	if right := rightOnce(a.memory.Right, s.Records); len(right) > len(a.memory.Right) {
		a.memory.Right, changed = right, true
	}
	is := matters(w, s.Items, s.Records, a.memory.Known, a.memory.Right)
	changed = a.memory.Look(is, w.now) || changed
	var names []string
	for _, way := range ways {
		names = append(names, way.Name)
	}
	if a.memory.Keep(names...) || changed {
		a.save()
	}
	for _, way := range ways {
		news := a.memory.News(way.Name, way.Target, w.now)
		if len(news) == 0 || a.sending[way.Name] {
			continue
		}
		a.sending[way.Name] = true
		for _, n := range news {
			a.logf("alert by %s: %s: %s", way.Name, n.Turn, n.Key)
		}
		msg := alert.Message{Domain: w.state.Domain, State: string(s.State), Matters: news, At: w.now.UTC().Truncate(time.Second)}
		a.wg.Go(func() { a.ended <- delivery{way, news, way.Send(ctx, msg)} })
	}
}

// collect remembers how deliveries ended.
func (a *alerter) collect() (changed bool) {
	for {
		select {
		case d := <-a.ended:
			a.sending[d.way.Name] = false
			failure := ""
			if d.err != nil {
				failure = d.err.Error()
				a.logf("error: an alert by %s could not be delivered: %s", d.way.Name, failure)
			}
			a.memory.Delivered(d.way.Name, d.way.Target, d.news, failure, a.machine.clock())
			changed = true
		default:
			return changed
		}
	}
}

// wait ends when all deliveries have; each has a deadline. One that the end of
// the run has cut off is begun again by the next.
func (a *alerter) wait(ctx context.Context) {
	a.wg.Wait()
	if ctx.Err() == nil && a.collect() {
		a.save()
	}
}

// troubles are the ways that did not work last, with the next try.
func (a *alerter) troubles() map[string]alert.Channel {
	a.load()
	out := map[string]alert.Channel{}
	for name, c := range a.memory.Channels {
		if c.Error != "" {
			out[name] = *c
		}
	}
	return out
}

// recipientsKept are who is told while the settings are wrong.
func recipientsKept(m *machine) alert.To {
	b, err := m.read(alertsPath, root)
	if err != nil || b == nil {
		return alert.To{}
	}
	memory, err := alert.Decode(b)
	if err != nil {
		return alert.To{}
	}
	return memory.To
}
