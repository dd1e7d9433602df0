package pod

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// The services that rules are about, by the names that upstream's file and ours
// give them.
const (
	server    = "server"
	api       = "api"
	dashboard = "dashboard"
)

const (
	// lookAgain is how often we look while something comes up.
	lookAgain = 250 * time.Millisecond
	// apiGivesUp is how long the API waits for the server before it exits.
	apiGivesUp = 10 * time.Second
	// serverTakes is how long a server may take until it is healthy: its own
	// limits add up to half a minute, and emulated processors are slow. Then
	// the API is started all the same: it comes back if it gives up.
	serverTakes = 60 * time.Second
	// tooLong is how long the API or the dashboard may run without an answer
	// before it is taken for one that runs and serves nothing.
	tooLong = 90 * time.Second
	// An end sooner than this after the start is a failure that may come again,
	// and the next try has to wait.
	tooShort   = 10 * time.Second
	afterShort = 5 * time.Second
	// dashboardWaits is how long a bad gateway may be the API's start.
	dashboardWaits = 15 * time.Second
)

// A State is what was seen of a Pod.
type State struct {
	Now        time.Time
	Networks   map[string]string // name -> hash of what it was made from
	Volumes    map[string]bool   // by name
	Images     map[string]string // reference -> id, of those that are there
	Containers []Seen            // of the project
	Busy       map[string]bool   // names that steps in progress are about

	Health   int  // status of the server's /health; 0: no answer or not asked
	Bare     bool // nothing but Prosody answers: the generation of 2025
	Answer   int  // status of /api/pod/version; 0: no answer or not asked
	Versions Versions
}

// Versions are what the Pod says of itself.
type Versions struct{ API, Server string }

// readVersions reads the answer of /api/pod/version; what is missing is empty.
func readVersions(body []byte) Versions {
	var v struct{ API, Server struct{ Version string } }
	if json.Unmarshal(body, &v) != nil {
		return Versions{}
	}
	return Versions{v.API.Version, v.Server.Version}
}

// A Seen is a container that is there.
type Seen struct {
	ID, Name, Service string
	Hash              string // of what it was made from
	Image             string // id
	Status            string // created, running, paused, restarting, removing, exited, dead
	ExitCode          int
	Error             string
	Created           time.Time
	Started, Finished time.Time // the last time; year 1: never
	Address           string    // IPv4, while it runs
}

func (s *State) running(service string) *Seen {
	for i, c := range s.Containers {
		if c.Service == service && c.Status == "running" {
			return &s.Containers[i]
		}
	}
	return nil
}

// A Verb is a kind of step.
type Verb string

// The steps.
const (
	Ready         Verb = "ready" // nothing to do: the Pod answers
	Wait          Verb = "wait"
	CreateNetwork Verb = "create network"
	RemoveNetwork Verb = "remove network"
	CreateVolume  Verb = "create volume"
	Pull          Verb = "pull"
	Create        Verb = "create"
	Start         Verb = "start"
	Restart       Verb = "restart"
	Unpause       Verb = "unpause"
	Remove        Verb = "remove"
)

func (v Verb) doing() string {
	return map[Verb]string{Wait: "waiting for", CreateNetwork: "creating network", RemoveNetwork: "removing network", CreateVolume: "creating volume",
		Pull: "pulling", Create: "creating", Start: "starting", Restart: "restarting", Unpause: "unpausing", Remove: "removing"}[v]
}

// A Step is what to do next.
type Step struct {
	Verb Verb
	Name string        // of the container, network, volume or image; what is waited for
	ID   string        // of the container
	Why  string        // for people
	For  time.Duration // how long to wait
}

func (s Step) String() string {
	out := string(s.Verb)
	if s.Name != "" {
		out += " " + s.Name
	}
	if s.Why != "" {
		out += ": " + s.Why
	}
	return out
}

func wait(name, why string) Step { return Step{Verb: Wait, Name: name, Why: why, For: lookAgain} }

// Next says what to do about a state. The server starts as soon as it is
// created, so that it comes up while the other containers are made; then what
// needs no answer from it; then the API, the dashboard. Every step makes
// progress that the next state shows.
//
// Steps may be done at the same time: what one is about is Busy until it is done.
func Next(d Desired, s State) Step {
	for _, c := range s.Containers {
		if s.Busy[c.Name] {
			continue
		}
		if step, ok := misfit(d, &s, c); ok {
			return step
		}
	}
	if step, ok := ground(d, &s); ok {
		return step
	}
	// Started at once, as soon as it is there.
	if w := wanted(d, server); w != nil && len(w.DependsOn) == 0 {
		step, ok := create(&s, *w)
		if !ok {
			step, ok = start(d, &s, *w)
		}
		if ok && step.Verb != Wait {
			return step
		}
	}
	var waiting *Step
	for _, to := range []func(Container) (Step, bool){
		func(c Container) (Step, bool) { return create(&s, c) },
		func(c Container) (Step, bool) { return start(d, &s, c) },
	} {
		for _, c := range d.Containers {
			step, ok := to(c)
			if ok && step.Verb != Wait {
				return step
			}
			if ok && waiting == nil {
				waiting = &step
			}
		}
	}
	if waiting != nil {
		return *waiting
	}
	for name := range s.Busy {
		return wait(name, "it is being worked on")
	}
	return supervise(d, &s)
}

// ground is what containers stand on: networks and volumes.
func ground(d Desired, s *State) (Step, bool) {
	var waiting *Step
	add := func(verb Verb, name string) (Step, bool) {
		if !s.Busy[name] {
			return Step{Verb: verb, Name: name, Why: "it is missing"}, true
		}
		step := wait(name, "it is being created")
		waiting = &step
		return Step{}, false
	}
	for _, n := range d.Networks {
		hash, there := s.Networks[n.Name]
		if !there {
			if step, ok := add(CreateNetwork, n.Name); ok {
				return step, true
			}
		} else if hash != n.Labels[labelHash] {
			return replaceNetwork(s, n.Name), true
		}
	}
	for _, v := range d.Volumes {
		if !s.Volumes[v.Name] {
			if step, ok := add(CreateVolume, v.Name); ok {
				return step, true
			}
		}
	}
	if waiting != nil {
		return *waiting, true
	}
	return Step{}, false
}

func find(s *State, service string) *Seen {
	i := slices.IndexFunc(s.Containers, func(c Seen) bool { return c.Service == service })
	if i < 0 {
		return nil
	}
	return &s.Containers[i]
}

func wanted(d Desired, service string) *Container {
	i := slices.IndexFunc(d.Containers, func(c Container) bool { return c.Service == service })
	if i < 0 {
		return nil
	}
	return &d.Containers[i]
}

// misfit finds containers that should not be as they are.
func misfit(d Desired, s *State, c Seen) (Step, bool) {
	remove := func(why string) (Step, bool) { return Step{Verb: Remove, Name: c.Name, ID: c.ID, Why: why}, true }
	w := wanted(d, c.Service)
	image := ""
	if w != nil {
		image = s.Images[w.Config.Image]
	}
	switch {
	case c.Status == "removing":
		return wait(c.Name, "it is being removed"), true
	case w == nil:
		return remove("it belongs to no service")
	case c.Name != w.Name:
		return remove("one container of " + c.Service + " is enough")
	case c.Hash != w.Hash():
		// Without the image the old one is better than none.
		if image == "" && s.Busy[w.Config.Image] {
			return wait(w.Config.Image, "it is being pulled"), true
		}
		if image == "" {
			return Step{Verb: Pull, Name: w.Config.Image, Why: "it is missing"}, w.Pull
		}
		return remove("its settings have changed")
	case image != "" && c.Image != image:
		return remove("its image has changed")
	case c.Status == "dead":
		return remove("it is dead")
	}
	return Step{}, false
}

// replaceNetwork makes way for a network with other settings.
func replaceNetwork(s *State, name string) Step {
	for _, c := range s.Containers {
		if s.Busy[c.Name] {
			continue
		}
		return Step{Verb: Remove, Name: c.Name, ID: c.ID, Why: "the settings of network " + name + " have changed"}
	}
	if len(s.Busy) > 0 {
		return wait(name, "containers leave it")
	}
	return Step{Verb: RemoveNetwork, Name: name, Why: "its settings have changed"}
}

func create(s *State, c Container) (Step, bool) {
	switch {
	case find(s, c.Service) != nil:
		return Step{}, false
	case s.Busy[c.Name], s.Busy[c.Config.Image]:
		return wait(c.Name, "it is being created"), true
	case s.Images[c.Config.Image] == "" && c.Pull:
		return Step{Verb: Pull, Name: c.Config.Image, Why: "it is missing"}, true
	}
	return Step{Verb: Create, Name: c.Name, Why: "it is missing"}, true
}

// start starts a container that is there, when its turn has come.
func start(d Desired, s *State, w Container) (Step, bool) {
	c := find(s, w.Service)
	if c == nil {
		return Step{}, false // it is being created
	}
	if s.Busy[c.Name] {
		return wait(c.Name, "it is being started"), true
	}
	why := "it has not run yet"
	switch c.Status {
	case "running":
		return Step{}, false
	case "paused":
		return Step{Verb: Unpause, Name: c.Name, ID: c.ID, Why: "it is paused"}, true
	case "restarting":
		return wait(c.Name, fmt.Sprintf("it ended with %d, and the engine starts it again", c.ExitCode)), true
	case "exited":
		why = fmt.Sprintf("it ended with %d", c.ExitCode)
		if c.Finished.Sub(c.Started) < tooShort && s.Now.Sub(c.Finished) < afterShort {
			return wait(c.Name, why+" at once"), true
		}
	}
	for _, other := range w.DependsOn {
		if s.running(other) == nil {
			return wait(c.Name, other+" does not run yet"), true
		}
	}
	if up := s.running(server); w.Service == api && up != nil {
		ran := s.Now.Sub(up.Started)
		if s.Health != http.StatusOK && !s.Bare && ran < serverTakes {
			return wait(up.Name, "it is not healthy yet"), true
		}
	}
	return Step{Verb: Start, Name: c.Name, ID: c.ID, Why: why}, true
}

// supervise looks after containers that all run: that is not health.
func supervise(d Desired, s *State) Step {
	srv, a, dash := s.running(server), s.running(api), s.running(dashboard)
	if srv == nil || a == nil || dash == nil {
		// A Pod without one of them has nobody to ask.
		return Step{Verb: Ready}
	}
	restart := func(c *Seen, why string) Step { return Step{Verb: Restart, Name: c.Name, ID: c.ID, Why: why} }
	answers := s.Answer == http.StatusOK
	if srv.Started.After(a.Started) {
		// A new server has its first configuration until the API applies the
		// full one, which it does only as it starts. An API that started just
		// before, as when the engine starts them all, waits for the server
		// and then does so; its answer tells.
		// One that answers for itself is through with that.
		together := srv.Started.Sub(a.Started) < apiGivesUp && !srv.Created.After(a.Started) &&
			(answers || s.Answer == 0 || s.Answer == http.StatusBadGateway || s.Health != http.StatusOK)
		switch {
		case !together, !answers && s.Now.Sub(srv.Started) > apiGivesUp:
			return restart(a, "the server is newer")
		case !answers:
			return wait(a.Name, "it started together with the server")
		}
	}
	if a.Created.After(dash.Started) {
		// The dashboard looks the API's address up once, as it starts.
		return restart(dash, "the API is another container")
	}
	if answers {
		return Step{Verb: Ready}
	}
	// Each of these changes what is asked here, so none is done twice in a row
	// without the others having had their turn.
	switch last := later(later(srv.Started, a.Started), dash.Started); {
	case s.Answer == http.StatusBadGateway && a.Started.After(dash.Started) && s.Now.Sub(a.Started) > dashboardWaits:
		return restart(dash, "the API started after it and may have another address")
	case s.Now.Sub(last) < tooLong:
	case s.Health != http.StatusOK && !s.Bare:
		return restart(srv, fmt.Sprintf("it runs and is not healthy (status %d)", s.Health))
	case a.Started.After(dash.Started):
		return restart(dash, fmt.Sprintf("it runs and has no answer from the API (status %d)", s.Answer))
	default:
		return restart(a, fmt.Sprintf("it runs and does not answer (status %d)", s.Answer))
	}
	return wait(a.Name, "it does not answer yet")
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
