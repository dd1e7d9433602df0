package firstboot

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prose-im/prose-image/firstboot/pod"
)

// upLimit is how long the Pod may take to answer before that is a failure that
// people are told of. The next run goes on.
const upLimit = 12 * time.Minute

// podSeen is what is known of the Pod.
type podSeen struct {
	busy, ready bool
	waiting     bool      // for containers that run
	doing       string    // what is done or waited for now; empty: nothing so far
	trouble     string    // why the engine cannot be looked at, while it is brought up
	since       time.Time // when that began
	err         error     // why it was not brought up
	versions    pod.Versions
	started     time.Time // of the API: what it has read is as old as that
	account     *bool     // whether an account exists; nil: not known
	exited      []string  // containers that do not run
	complaints  int       // lines of the logs that tell of errors
}

// A supervisor brings the Pod up, beside everything else.
type supervisor struct {
	machine *machine
	logf    func(format string, args ...any)

	mu      sync.Mutex
	now     podSeen
	pod     *pod.Pod
	ctx     context.Context
	wg      sync.WaitGroup
	changed chan struct{} // gets a value when something has
}

func newSupervisor(ctx context.Context, m *machine, logf func(string, ...any)) *supervisor {
	return &supervisor{machine: m, logf: logf, ctx: ctx, changed: make(chan struct{}, 1)}
}

func (s *supervisor) seen() podSeen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *supervisor) set(change func(*podSeen)) {
	s.mu.Lock()
	change(&s.now)
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// start begins to bring the Pod up, and returns.
func (s *supervisor) start(analytics bool) error {
	p, err := s.machine.loadPod(analytics)
	if err != nil {
		s.set(func(n *podSeen) { n.err = err })
		return err
	}
	p.Log = func(step pod.Step) {
		text := step.String()
		if step.Verb == pod.Ready {
			return
		}
		if step.Verb != pod.Wait {
			s.logf("pod: %s", text)
		}
		s.set(func(n *podSeen) { n.doing, n.waiting = text, step.Verb == pod.Wait })
	}
	p.Trouble = func(err error) {
		s.mu.Lock()
		had := s.now.trouble
		s.mu.Unlock()
		switch {
		case err == nil && had == "":
		case err == nil:
			s.logf("pod: the engine answers")
			s.set(func(n *podSeen) { n.trouble, n.doing = "", "looking at the containers" })
		case had == "":
			s.logf("pod: the engine does not answer: %v", err)
			s.set(func(n *podSeen) {
				n.trouble, n.since = err.Error(), time.Now()
				n.doing = "waiting for the engine"
			})
		}
	}
	s.pod = p
	s.set(func(n *podSeen) { n.busy, n.err = true, nil })
	s.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, upLimit)
		defer cancel()
		state, err := p.Up(ctx)
		var account *bool
		complaints := 0
		if err == nil {
			exists, err := s.machine.account(ctx)
			if err == nil {
				account = &exists
			} else {
				s.logf("%v", err)
			}
			complaints = s.complaints(ctx, state)
		}
		s.set(func(n *podSeen) {
			*n = podSeen{ready: err == nil, err: err, versions: state.Versions, account: account, complaints: complaints}
			for _, c := range state.Containers {
				switch {
				case c.Status != "running":
					n.exited = append(n.exited, c.Name)
				case c.Service == "api":
					n.started = c.Started
				}
			}
		})
	})
	return nil
}

// loadPod reads the Pod's files. All of them are root's.
func (m *machine) loadPod(analytics bool) (*pod.Pod, error) {
	dir := m.path(podDir)
	d, err := pod.Load(pod.Source{
		Dir:     dir,
		Files:   []string{dir + "/compose.yaml", dir + "/compose.override.yaml", dir + "/compose.images.yaml"},
		EnvFile: dir + "/compose.env",
		Environ: map[string]string{"PROSE_ANALYTICS": strconv.FormatBool(analytics)},
	})
	if err != nil {
		return nil, err
	}
	return &pod.Pod{Desired: d, Engine: m.engine, Version: m.dashboard + "/api/pod/version"}, nil
}

// complaint is what upstream's own check takes for an error in a log.
var complaint = regexp.MustCompile(`(?i)[^:]error[^:]`)

// complaints counts errors at the ends of the Pod's logs.
func (s *supervisor) complaints(ctx context.Context, state pod.State) int {
	n := 0
	for _, c := range state.Containers {
		text, err := s.machine.engine.Logs(ctx, c.ID, 50)
		if err != nil {
			s.logf("reading the log of %s: %v", c.Name, err)
			continue
		}
		for line := range strings.Lines(text) {
			if complaint.MatchString(line) {
				n++
			}
		}
	}
	return n
}

// forgetAccount has the Pod asked again whether an account exists.
func (s *supervisor) forgetAccount() {
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
	defer cancel()
	exists, err := s.machine.account(ctx)
	s.set(func(n *podSeen) {
		n.account = &exists
		if err != nil {
			n.account = nil
		}
	})
}

// container is the id of a service's container, and since when it runs.
func (s *supervisor) container(ctx context.Context, service string) (string, time.Time, error) {
	if s.pod == nil {
		return "", time.Time{}, errors.New("the Pod has not been looked at")
	}
	state, err := s.pod.Observe(ctx, nil)
	if err != nil {
		return "", time.Time{}, err
	}
	for _, c := range state.Containers {
		if c.Service == service && c.Status == "running" {
			return c.ID, c.Started, nil
		}
	}
	return "", time.Time{}, fmt.Errorf("no container of %s runs", service)
}

// hangUp has the server and its Prosody read their files again.
func (s *supervisor) hangUp(ctx context.Context) error {
	id, _, err := s.container(ctx, "server")
	if err != nil {
		return err
	}
	return s.machine.engine.Kill(ctx, id, "SIGHUP")
}

// reconfigure has the Pod read prose.toml again: the server by its signal, the
// API by a start, which also makes it apply everything that follows from it.
func (s *supervisor) reconfigure(ctx context.Context) error {
	if err := s.hangUp(ctx); err != nil {
		return err
	}
	if err := s.restart(ctx, "api"); err != nil {
		return err
	}
	s.set(func(n *podSeen) { n.ready = false })
	return nil
}

// begin has a Pod that waits for its configuration start with it. A signal
// would end a server that is not up.
func (s *supervisor) begin(ctx context.Context) error {
	if err := s.restart(ctx, "server"); err != nil {
		return err
	}
	return s.restart(ctx, "api")
}

func (s *supervisor) restart(ctx context.Context, service string) error {
	id, _, err := s.container(ctx, service)
	if err != nil {
		return err
	}
	return s.machine.engine.Restart(ctx, id, 10*time.Second)
}
