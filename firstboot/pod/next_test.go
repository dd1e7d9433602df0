package pod

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prose-im/prose-image/firstboot/engine"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func desired() Desired {
	labels := func() map[string]string { return map[string]string{labelHash: "h"} }
	d := Desired{Project: "p", Networks: []engine.Network{{Name: "p_n", Labels: labels()}}, Volumes: []engine.Volume{{Name: "p_v"}}}
	for _, s := range []struct {
		name    string
		depends []string
	}{{"server", nil}, {"api", []string{"server"}}, {"app", []string{"server"}}, {"dashboard", []string{"api"}}} {
		d.Containers = append(d.Containers, Container{Service: s.name, Name: "p-" + s.name + "-1", Pull: true, DependsOn: s.depends,
			Config: engine.Config{Image: "i:" + s.name, Labels: labels()}})
	}
	return d
}

// up is a Pod that has been Ready since eleven: server, api, app, dashboard were
// made at ten and started a minute after each other from half past.
func up() State {
	s := State{Now: noon, Networks: map[string]string{"p_n": "h"}, Volumes: map[string]bool{"p_v": true}, Images: map[string]string{}, Answer: 200, Health: 200}
	for i, name := range []string{"server", "api", "app", "dashboard"} {
		s.Images["i:"+name] = "id-" + name
		s.Containers = append(s.Containers, Seen{ID: name, Name: "p-" + name + "-1", Service: name, Hash: "h", Image: "id-" + name, Status: "running",
			Created: noon.Add(-2 * time.Hour), Started: noon.Add(time.Duration(i-90) * time.Minute)})
	}
	return s
}

func (s *State) set(service string, change func(*Seen)) {
	change(find(s, service))
}

func (s *State) drop(service string) {
	s.Containers = slices.DeleteFunc(s.Containers, func(c Seen) bool { return c.Service == service })
}

func TestNext(t *testing.T) {
	ago := func(s int) time.Time { return noon.Add(-time.Duration(s) * time.Second) }
	status := func(v string) func(*Seen) { return func(c *Seen) { c.Status = v } }
	started := func(s int) func(*Seen) { return func(c *Seen) { c.Started = ago(s) } }
	all := []string{"server", "api", "app", "dashboard"}
	for _, c := range []struct {
		name string
		make func(s *State, d *Desired)
		want string
	}{
		{"ready", func(s *State, d *Desired) {}, "ready"},
		{"no network", func(s *State, d *Desired) { s.Networks = nil; s.Containers = nil }, "create network p_n: it is missing"},
		{"another network", func(s *State, d *Desired) { s.Networks["p_n"] = "x" }, "remove p-server-1: the settings of network p_n have changed"},
		{"another empty network", func(s *State, d *Desired) { s.Networks["p_n"] = "x"; s.Containers = nil }, "remove network p_n: its settings have changed"},
		{"networks at once", func(s *State, d *Desired) {
			s.Networks, s.Volumes, s.Containers = nil, nil, nil
			s.Busy = map[string]bool{"p_n": true}
		}, "create volume p_v: it is missing"},
		{"containers need the ground", func(s *State, d *Desired) {
			s.Networks, s.Containers = nil, nil
			s.Busy = map[string]bool{"p_n": true}
		}, "wait p_n: it is being created"},
		{"another network, being left", func(s *State, d *Desired) {
			s.Networks["p_n"] = "x"
			s.Busy = map[string]bool{"p-server-1": true, "p-api-1": true, "p-app-1": true, "p-dashboard-1": true}
		}, "wait p_n: containers leave it"},
		{"while the server is created", func(s *State, d *Desired) {
			s.Containers = nil
			s.Busy = map[string]bool{"p-server-1": true}
		}, "create p-api-1: it is missing"},
		{"while the server starts", func(s *State, d *Desired) {
			s.Containers = s.Containers[:1]
			s.set("server", status("created"))
			s.Busy = map[string]bool{"p-server-1": true}
		}, "create p-api-1: it is missing"},
		{"one pull of one image", func(s *State, d *Desired) {
			s.Containers, s.Images = nil, nil
			for i := range d.Containers {
				d.Containers[i].Config.Image = "i"
			}
			s.Busy = map[string]bool{"i": true}
		}, "wait p-server-1: it is being created"},
		{"while the API restarts", func(s *State, d *Desired) { s.Busy = map[string]bool{"p-api-1": true} }, "wait p-api-1: it is being started"},
		{"no volume", func(s *State, d *Desired) { s.Volumes = nil; s.Containers = nil }, "create volume p_v: it is missing"},
		{"nothing", func(s *State, d *Desired) { s.Containers = nil }, "create p-server-1: it is missing"},
		{"no image", func(s *State, d *Desired) { s.Containers, s.Images = nil, nil }, "pull i:server: it is missing"},
		{"no image and no pull", func(s *State, d *Desired) { s.Containers, s.Images = nil, nil; d.Containers[0].Pull = false }, "create p-server-1: it is missing"},
		{"server at once", func(s *State, d *Desired) { s.Containers = s.Containers[:1]; s.set("server", status("created")) }, "start p-server-1: it has not run yet"},
		{"then the others", func(s *State, d *Desired) { s.Containers = s.Containers[:1] }, "create p-api-1: it is missing"},
		{"api waits for health, app does not", func(s *State, d *Desired) {
			s.set("server", started(1))
			s.set("api", status("created"))
			s.set("app", status("created"))
			s.Health = 425
		}, "start p-app-1: it has not run yet"},
		{"api waits for health", func(s *State, d *Desired) {
			s.set("server", started(1))
			s.set("api", status("created"))
			s.Health = 425
		}, "wait p-server-1: it is not healthy yet"},
		{"api at health", func(s *State, d *Desired) { s.set("server", started(1)); s.set("api", status("created")) }, "start p-api-1: it has not run yet"},
		{"api of 2025", func(s *State, d *Desired) {
			s.set("server", started(1))
			s.set("api", status("created"))
			s.Health, s.Bare = 0, true
		}, "start p-api-1: it has not run yet"},
		{"api waits no longer", func(s *State, d *Desired) {
			s.set("server", started(60))
			s.set("api", status("created"))
			s.Health = 0
		}, "start p-api-1: it has not run yet"},
		{"dashboard waits for api", func(s *State, d *Desired) {
			s.set("api", status("restarting"))
			s.set("dashboard", status("created"))
		}, "wait p-api-1: it ended with 0, and the engine starts it again"},
		{"dashboard", func(s *State, d *Desired) { s.set("dashboard", status("created")) }, "start p-dashboard-1: it has not run yet"},
		{"api gave up", func(s *State, d *Desired) {
			s.set("api", func(c *Seen) { c.Status, c.ExitCode, c.Started, c.Finished = "exited", 1, ago(11), ago(0) })
		}, "start p-api-1: it ended with 1"},
		{"app ends at once", func(s *State, d *Desired) {
			s.set("app", func(c *Seen) { c.Status, c.ExitCode, c.Started, c.Finished = "exited", 1, ago(3), ago(2) })
		}, "wait p-app-1: it ended with 1 at once"},
		{"app ended at once", func(s *State, d *Desired) {
			s.set("app", func(c *Seen) { c.Status, c.ExitCode, c.Started, c.Finished = "exited", 1, ago(7), ago(6) })
		}, "start p-app-1: it ended with 1"},
		{"paused", func(s *State, d *Desired) { s.set("app", status("paused")) }, "unpause p-app-1: it is paused"},
		{"dead", func(s *State, d *Desired) { s.set("app", status("dead")) }, "remove p-app-1: it is dead"},
		{"being removed", func(s *State, d *Desired) { s.set("app", status("removing")) }, "wait p-app-1: it is being removed"},
		{"orphan", func(s *State, d *Desired) {
			s.Containers = append(s.Containers, Seen{ID: "x", Name: "p-old-1", Service: "old", Status: "running"})
		}, "remove p-old-1: it belongs to no service"},
		{"two of one", func(s *State, d *Desired) {
			s.Containers = append(s.Containers, Seen{ID: "x", Name: "p-app-2", Service: "app", Hash: "h", Status: "running"})
		}, "remove p-app-2: one container of app is enough"},
		{"other settings", func(s *State, d *Desired) { d.Containers[2].Config.Labels[labelHash] = "x" }, "remove p-app-1: its settings have changed"},
		{"other settings, no image", func(s *State, d *Desired) {
			d.Containers[2].Config.Labels[labelHash] = "x"
			delete(s.Images, "i:app")
		}, "pull i:app: it is missing"},
		{"other settings, no image, no pull", func(s *State, d *Desired) {
			d.Containers[2].Config.Labels[labelHash], d.Containers[2].Pull = "x", false
			delete(s.Images, "i:app")
		}, "ready"},
		{"other image", func(s *State, d *Desired) { s.Images["i:app"] = "x" }, "remove p-app-1: its image has changed"},
		{"image gone from the engine", func(s *State, d *Desired) { delete(s.Images, "i:app") }, "ready"},

		{"server restarted", func(s *State, d *Desired) { s.set("server", started(1)) }, "restart p-api-1: the server is newer"},
		{"server recreated, api young", func(s *State, d *Desired) {
			s.set("api", started(9))
			s.set("server", func(c *Seen) { c.Created, c.Started = ago(2), ago(1) })
		}, "restart p-api-1: the server is newer"},
		{"all started by the engine, still quiet", func(s *State, d *Desired) {
			s.set("server", started(2))
			s.set("api", started(3))
			s.set("dashboard", started(1))
			s.Answer = 502
		}, "wait p-api-1: it started together with the server"},
		{"server crashed, api young", func(s *State, d *Desired) {
			s.set("server", started(2))
			s.set("api", started(9))
			s.Answer = 500
		}, "restart p-api-1: the server is newer"},
		{"all started by the engine", func(s *State, d *Desired) {
			s.set("server", started(2))
			s.set("api", started(3))
			s.set("dashboard", started(1))
		}, "ready"},
		{"all started by the engine, in vain", func(s *State, d *Desired) {
			s.set("server", started(12))
			s.set("api", started(13))
			s.Answer = 500
		}, "restart p-api-1: the server is newer"},
		{"api recreated", func(s *State, d *Desired) { s.set("api", func(c *Seen) { c.Created, c.Started = ago(9), ago(8) }) }, "restart p-dashboard-1: the API is another container"},
		{"api restarted, same address", func(s *State, d *Desired) { s.set("api", started(20)) }, "ready"},
		{"api restarted, starting", func(s *State, d *Desired) { s.set("api", started(14)); s.Answer = 502 }, "wait p-api-1: it does not answer yet"},
		{"api restarted, other address", func(s *State, d *Desired) { s.set("api", started(16)); s.Answer = 502 },
			"restart p-dashboard-1: the API started after it and may have another address"},
		{"api serves nothing", func(s *State, d *Desired) { s.Answer = 502 }, "restart p-api-1: it runs and does not answer (status 502)"},
		{"for a while", func(s *State, d *Desired) { s.set("dashboard", started(60)); s.Answer = 502 }, "wait p-api-1: it does not answer yet"},
		{"dashboard gets nothing", func(s *State, d *Desired) { s.set("api", started(100)); s.Answer = 0 },
			"restart p-dashboard-1: it runs and has no answer from the API (status 0)"},
		{"server serves nothing", func(s *State, d *Desired) { s.Answer, s.Health = 500, 503 }, "restart p-server-1: it runs and is not healthy (status 503)"},
		{"server of 2025 has no health", func(s *State, d *Desired) { s.Answer, s.Health, s.Bare = 500, 0, true }, "restart p-api-1: it runs and does not answer (status 500)"},
		{"another Pod", func(s *State, d *Desired) {
			d.Containers = d.Containers[2:3]
			d.Containers[0].DependsOn = nil
			for _, n := range all {
				if n != "app" {
					s.drop(n)
				}
			}
			s.Answer = 0
		}, "ready"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, d := up(), desired()
			c.make(&s, &d)
			if got := Next(d, s).String(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// A model of the engine: steps from any mess lead to Ready.
func TestConverges(t *testing.T) {
	states := []string{"gone", "created", "running", "exited", "paused", "dead", "other"}
	for n := range len(states) * len(states) * len(states) * len(states) {
		s, d := up(), desired()
		s.Answer, s.Health = 0, 0
		for i, c := range d.Containers {
			k := n
			for range i {
				k /= len(states)
			}
			switch v := states[k%len(states)]; v {
			case "gone":
				s.drop(c.Service)
			case "other":
				s.set(c.Service, func(c *Seen) { c.Hash = "x" })
			default:
				s.set(c.Service, func(c *Seen) { c.Status = v })
			}
		}
		var told []string
		for range 60 {
			// All steps that may be done at the same time, in some order.
			var steps []Step
			s.Busy = map[string]bool{}
			step := Next(d, s)
			for step.Verb != Wait && step.Verb != Ready {
				told = append(told, step.String())
				if s.Busy[step.Name] {
					t.Fatalf("mess %d has two steps about one thing\n%s", n, strings.Join(told, "\n"))
				}
				s.Busy[step.Name] = true
				steps = append(steps, step)
				step = Next(d, s)
			}
			s.Busy = nil
			if len(steps) == 0 {
				told = append(told, step.String())
				steps = []Step{step}
			}
			if step.Verb == Ready {
				break
			}
			for _, i := range rand.New(rand.NewPCG(uint64(n), 1)).Perm(len(steps)) {
				play(&s, d, steps[i])
			}
		}
		if last := told[len(told)-1]; last != "ready" {
			t.Fatalf("mess %d ends in\n%s", n, strings.Join(told, "\n"))
		}
	}
}

// play does a step in the model: a server is healthy after two seconds; the API
// answers two seconds after its start if the server was there then.
func play(s *State, d Desired, step Step) {
	c := (*Seen)(nil)
	for i := range s.Containers {
		if s.Containers[i].ID == step.ID {
			c = &s.Containers[i]
		}
	}
	s.Now = s.Now.Add(time.Second)
	switch step.Verb {
	case Create:
		for _, w := range d.Containers {
			if w.Name == step.Name {
				s.Containers = append(s.Containers, Seen{ID: w.Service, Name: w.Name, Service: w.Service, Hash: "h", Image: s.Images[w.Config.Image], Status: "created", Created: s.Now})
			}
		}
	case Start, Restart:
		c.Status, c.Started = "running", s.Now
	case Unpause:
		c.Status = "running"
	case Remove:
		s.drop(c.Service)
	case Wait:
	default:
		panic(fmt.Sprint(step))
	}
	srv, a, dash := s.running(server), s.running(api), s.running(dashboard)
	s.Health, s.Answer = 0, 0
	if srv != nil && s.Now.Sub(srv.Started) > 2*time.Second {
		s.Health = 200
	}
	if srv == nil || a == nil || dash == nil {
		return
	}
	s.Answer = 502
	if !a.Created.After(dash.Started) && s.Now.Sub(a.Started) > 2*time.Second {
		s.Answer = 500
		if s.Health == 200 && a.Started.After(srv.Started) {
			s.Answer = 200
		}
	}
}
