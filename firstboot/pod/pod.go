// Package pod brings a Pod up and keeps it up: it reads Compose files, says what
// the engine should have, looks at what it has, and does what is missing until
// the Pod answers.
//
//	Load (Parse, Want) -> Desired
//	loop: Observe -> State; Next(Desired, State) -> Step; Do(Step)
//
// All that is decided is in [Next], which is pure and has no memory: containers'
// times of start say what has to follow what. So whoever is killed between two
// steps, or finds a Pod that somebody else has changed, goes on the same way.
// It never gives up; what fails is tried again, ever more slowly.
//
// Why not "docker compose up": it does not know that the API gives up after ten
// seconds, that a new server wants the API again and a new API the dashboard,
// nor that a running container may serve nothing; and it costs a process of
// sixty megabytes at each look.
//
// One of the two has to own the Pod. The containers' labels are Compose's, so
// "docker compose ps", "logs", "exec" and "stop" work on what is made here, but
// the hash of a container's settings cannot be: Compose computes it from its own
// structures, which change with its version. So "up" makes our containers anew,
// and the next run of this package makes Compose's anew. That is how a machine
// moves from one to the other in either direction, and why a unit that calls
// "up" by itself must not be enabled beside the agent. A unit for the Pod is
// still of use: to order it after the engine, and to stop it at shutdown.
package pod

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prose-im/prose-image/firstboot/engine"
)

// A Source says where a Pod's files are.
type Source struct {
	Dir     string            // what relative paths start from
	Files   []string          // Compose files, later over earlier
	EnvFile string            // variables for these
	Environ map[string]string // more variables, which win
}

// Load reads a Pod's files. All of them have to lie where only root writes.
func Load(s Source) (Desired, error) {
	var ps problems
	read := func(name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			ps = append(ps, fmt.Errorf("reading the Pod's files: %w", err))
		}
		return b
	}
	env, err := ParseEnv(s.EnvFile, read(s.EnvFile), s.Environ)
	if err != nil {
		ps = append(ps, err)
	}
	maps.Copy(env, s.Environ)
	var files []File
	for _, name := range s.Files {
		files = append(files, File{name, read(name)})
	}
	if err := ps.err(); err != nil {
		return Desired{}, err
	}
	p, err := Parse(s.Dir, files, env)
	if err != nil {
		return Desired{}, err
	}
	content := map[string][]byte{}
	for _, e := range p.EnvFiles() {
		b, err := os.ReadFile(e.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // Want says who wanted it
		} else if err != nil {
			return Desired{}, fmt.Errorf("reading the Pod's files: %w", err)
		}
		content[e.Path] = b
	}
	return Want(p, content, env)
}

// A Pod is a Pod on an engine.
type Pod struct {
	Desired Desired
	Engine  *engine.Client
	HTTP    *http.Client // for the probes; nil: one of our own, without proxy
	// Version is where the dashboard hands the question of the versions on to
	// the API; empty: http://127.0.0.1:8081/api/pod/version
	Version string
	// Prosody is Prosody's own HTTP port on the machine; empty:
	// http://127.0.0.1:5280/
	Prosody string
	// Log, if not nil, is told each step.
	Log func(Step)
	// Trouble, if not nil, is told each time that the engine cannot be looked at,
	// and nil when it can again. Up goes on meanwhile.
	Trouble func(error)
}

var direct = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// get returns the status of an answer, 0 if there is none, and the start of it.
func (p *Pod) get(ctx context.Context, url string) (int, []byte) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil
	}
	client := p.HTTP
	if client == nil {
		client = direct
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return 0, nil
	}
	return res.StatusCode, b
}

// workedOn is the status of a container that a step is about: neither what the
// engine said of it before, nor what it will say.
const workedOn = "worked on"

// Observe looks at the engine and, as far as containers run, asks the Pod. At
// what is busy it does not look: the engine would not answer before that is
// done, and meanwhile the others would wait.
func (p *Pod) Observe(ctx context.Context, busy map[string]bool) (State, error) {
	of := labelProject + "=" + p.Desired.Project
	s := State{Networks: map[string]string{}, Volumes: map[string]bool{}, Images: map[string]string{}}
	// All of them: a name may be taken by one that is not of the project.
	networks, err := p.Engine.Networks(ctx)
	if err != nil {
		return s, fmt.Errorf("listing networks: %w", err)
	}
	for _, n := range networks {
		s.Networks[n.Name] = n.Labels[labelHash]
		for _, w := range p.Desired.Networks {
			if n.Name == w.Name && n.Labels[labelHash] == "" && alike(n, w) {
				s.Networks[n.Name] = w.Labels[labelHash]
			}
		}
	}
	if len(p.Desired.Volumes) > 0 {
		volumes, err := p.Engine.Volumes(ctx)
		if err != nil {
			return s, fmt.Errorf("listing volumes: %w", err)
		}
		for _, v := range volumes {
			s.Volumes[v.Name] = true
		}
	}
	for _, c := range p.Desired.Containers {
		i, err := p.Engine.Image(ctx, c.Config.Image)
		if errors.Is(err, engine.ErrNotFound) {
			continue
		} else if err != nil {
			return s, fmt.Errorf("looking for an image: %w", err)
		}
		s.Images[c.Config.Image] = i.ID
	}
	list, err := p.Engine.Containers(ctx, of, labelOneoff+"=False")
	if err != nil {
		return s, fmt.Errorf("listing containers: %w", err)
	}
	for _, l := range list {
		at := slices.IndexFunc(l.Names, func(n string) bool { return busy[strings.TrimPrefix(n, "/")] })
		if at >= 0 {
			s.Containers = append(s.Containers, Seen{ID: l.ID, Name: strings.TrimPrefix(l.Names[at], "/"), Service: l.Labels[labelService],
				Hash: l.Labels[labelHash], Image: l.Image, Status: workedOn})
			continue
		}
		c, err := p.Engine.Inspect(ctx, l.ID)
		if errors.Is(err, engine.ErrNotFound) {
			continue
		} else if err != nil {
			return s, fmt.Errorf("inspecting a container: %w", err)
		}
		s.Containers = append(s.Containers, seen(c))
	}
	// After the containers: an answer is never older than what is known of them.
	p.ask(ctx, &s)
	s.Now = time.Now()
	return s, nil
}

// alike reports whether a network that somebody else has made, such as Compose,
// is as good as ours.
func alike(there, want engine.Network) bool {
	return there.EnableIPv6 == want.EnableIPv6 && there.Driver == want.Driver && there.Internal == want.Internal && len(want.IPAM.Config) == 0
}

func seen(c engine.Container) Seen {
	out := Seen{
		ID: c.ID, Name: strings.TrimPrefix(c.Name, "/"), Service: c.Config.Labels[labelService], Hash: c.Config.Labels[labelHash], Image: c.Image,
		Status: c.State.Status, ExitCode: c.State.ExitCode, Error: c.State.Error, Created: c.Created, Started: c.State.StartedAt, Finished: c.State.FinishedAt,
	}
	for _, e := range c.NetworkSettings.Networks {
		if e.IPAddress != "" {
			out.Address = e.IPAddress
		}
	}
	return out
}

func (p *Pod) ask(ctx context.Context, s *State) {
	srv, a, dash := s.running(server), s.running(api), s.running(dashboard)
	if srv != nil && a != nil && dash != nil {
		// The API itself first: what it does not answer, the dashboard writes into
		// its log as an error.
		if s.Answer, _ = p.get(ctx, "http://"+a.Address+":8080/pod/version"); s.Answer != http.StatusOK {
			p.askServer(ctx, s, srv)
			return
		}
		var body []byte
		s.Answer, body = p.get(ctx, or(p.Version, "http://127.0.0.1:8081/api/pod/version"))
		s.Versions = readVersions(body)
		if s.Answer == http.StatusOK && (s.Versions.API == "" || s.Versions.Server == "") {
			s.Answer = 0
		}
	}
	if s.Answer != http.StatusOK {
		p.askServer(ctx, s, srv)
	}
}

// askServer asks the server for its health.
func (p *Pod) askServer(ctx context.Context, s *State, srv *Seen) {
	if srv == nil || srv.Address == "" {
		return
	}
	s.Health, _ = p.get(ctx, "http://"+srv.Address+":8080/health")
	if s.Health == 0 {
		// The generation of 2025 has no server API: there Prosody itself is all
		// there is. In today's the server API listens before Prosody.
		status, _ := p.get(ctx, or(p.Prosody, "http://127.0.0.1:5280/"))
		s.Bare = status != 0
	}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// Do does one step.
func (p *Pod) Do(ctx context.Context, s Step) error {
	err := p.do(ctx, s)
	if err != nil {
		return fmt.Errorf("%s %s: %w", s.Verb.doing(), s.Name, err)
	}
	return nil
}

// patience is how long a container may take to stop.
const patience = 10 * time.Second

func (p *Pod) do(ctx context.Context, s Step) error {
	switch s.Verb {
	case CreateNetwork:
		for _, n := range p.Desired.Networks {
			if n.Name == s.Name {
				return p.Engine.CreateNetwork(ctx, n)
			}
		}
	case RemoveNetwork:
		return p.Engine.RemoveNetwork(ctx, s.Name)
	case CreateVolume:
		for _, v := range p.Desired.Volumes {
			if v.Name == s.Name {
				return p.Engine.CreateVolume(ctx, v)
			}
		}
	case Pull:
		return p.Engine.Pull(ctx, s.Name)
	case Create:
		for _, c := range p.Desired.Containers {
			if c.Name == s.Name {
				return p.create(ctx, c)
			}
		}
	case Start:
		return p.Engine.Start(ctx, s.ID)
	case Restart:
		return p.Engine.Restart(ctx, s.ID, patience)
	case Unpause:
		return p.Engine.Unpause(ctx, s.ID)
	case Remove:
		// A chance to finish first; what is left is removed whatever it says.
		if err := p.Engine.Stop(ctx, s.ID, patience); err != nil && ctx.Err() != nil {
			return err
		}
		return p.Engine.Remove(ctx, s.ID)
	}
	return nil
}

// create makes a container that is in all of its networks, or none: half of one
// would look complete.
func (p *Pod) create(ctx context.Context, c Container) error {
	id, err := p.Engine.Create(ctx, c.Name, c.Config)
	if err != nil {
		return err
	}
	for name, e := range c.More {
		if err := p.Engine.Connect(ctx, name, id, e); err != nil {
			return errors.Join(err, p.Engine.Remove(ctx, id))
		}
	}
	return nil
}

// Up goes on until the Pod is Ready, and returns what was last seen. It ends
// before that only with ctx, which has to have a deadline; the error then tells
// what was waited for, and what the engine said last.
func (p *Pod) Up(ctx context.Context) (State, error) {
	type result struct {
		name string
		err  error
	}
	done := make(chan result)
	busy := map[string]bool{}
	// Nothing is left in progress.
	defer func() {
		for range busy {
			<-done
		}
	}()
	var last error
	var state State
	var told Step
	pause := time.Second
	for {
		now, err := p.Observe(ctx, busy)
		if p.Trouble != nil && ctx.Err() == nil {
			p.Trouble(err)
		}
		rest := time.Duration(0)
		if err == nil {
			state = now
			state.Busy = busy
			step := Next(p.Desired, state)
			for step.Verb != Wait && step.Verb != Ready {
				p.tell(step)
				busy[step.Name] = true
				go func(s Step) { done <- result{s.Name, p.Do(ctx, s)} }(step)
				step = Next(p.Desired, state)
			}
			if step != told && len(busy) == 0 {
				p.tell(step)
			}
			if step.Verb == Ready {
				state.Busy = nil
				return state, nil
			}
			told, rest = step, step.For
		}
		timer := time.NewTimer(max(rest, 0))
		if err != nil {
			timer.Reset(pause)
		}
		select {
		case r := <-done:
			delete(busy, r.name)
			if err = r.err; err == nil {
				last, pause = nil, time.Second
			} else if !errors.Is(err, engine.ErrConflict) && !errors.Is(err, engine.ErrNotFound) {
				// What somebody else was faster with is looked at again at once.
				p.sleep(ctx, pause)
				pause = min(2*pause, 30*time.Second)
			} else {
				p.sleep(ctx, lookAgain)
			}
		case <-timer.C:
			if err != nil {
				pause = min(2*pause, 30*time.Second)
			}
		case <-ctx.Done():
		}
		timer.Stop()
		if err != nil {
			last = err
		}
		if ctx.Err() != nil {
			if last == nil {
				last = fmt.Errorf("waiting for %s: %s", told.Name, told.Why)
			}
			return state, errors.Join(fmt.Errorf("bringing the Pod up: %w", ctx.Err()), last)
		}
	}
}

func (p *Pod) tell(s Step) {
	if p.Log != nil {
		p.Log(s)
	}
}

func (p *Pod) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
