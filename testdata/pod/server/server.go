package main

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prose-im/prose-image/testdata/pod/podlog"
	"github.com/prose-im/prose-image/testdata/pod/prosetoml"
)

const (
	prosodyConfig = "/etc/prosody/prosody.cfg.lua"
	prosodyData   = "/var/lib/prosody"
	certsDir      = "/etc/prosody/certs"
	saltPath      = "/var/lib/prose-pod-server/salt.bin"
	shellSocket   = "/var/run/prosody/prosody.sock"
)

//go:embed bootstrap.cfg.lua
var bootstrapConfig string

// emptyConfig is what a factory reset leaves of prose.toml.
const emptyConfig = "# Prose Pod configuration file\n# Emptied by a factory reset.\n"

// A fault is an answer of the API that is not a success.
type fault struct {
	status int
	retry  int // seconds for Retry-After; 0: none
	kind   string
	code   string
	text   string
	hint   string
}

var (
	starting   = &fault{425, 1, "LIFECYCLE_ERROR", "SERVER_STARTING", "Starting", "Ask again soon."}
	restarting = &fault{425, 1, "LIFECYCLE_ERROR", "SERVER_RESTARTING", "Restarting", "Ask again soon."}
	stopped    = &fault{503, 0, "LIFECYCLE_ERROR", "SERVER_STOPPED", "Stopped", "A configuration is needed."}
	resetting  = &fault{503, 15, "LIFECYCLE_ERROR", "FACTORY_RESET_IN_PROGRESS", "Resetting", "Ask again later."}
	badConfig  = &fault{503, 0, "LIFECYCLE_ERROR", "BAD_CONFIGURATION", "Bad configuration", "See the log."}
)

func internal(code string) *fault {
	return &fault{500, 0, "INTERNAL_ERROR", code, "Internal error", "See the log."}
}

func conflict(code, text string) *fault {
	return &fault{409, 0, "CONFLICT_ERROR", code, text, text + "."}
}

// A server is in one of upstream's states: the front end (its configuration)
// and the back end (Prosody) each have a fault, or none when they run.
type server struct {
	log       *podlog.Logger
	prosody   prosody
	accounts  *accounts
	lifecycle sync.Mutex // held by whatever changes the state

	mu    sync.Mutex // guards what follows
	conf  *config
	front *fault
	back  *fault
	space workspace
}

// A workspace is what the dashboard shows of the team.
type workspace struct {
	Name        string  `json:"name"`
	Icon        *string `json:"icon"`
	AccentColor *string `json:"accent_color"`
}

func newServer(log *podlog.Logger, conf *config) *server {
	return &server{log: log, prosody: prosody{log: log}, conf: conf, back: starting}
}

func (s *server) state() (conf *config, front, back *fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conf, s.front, s.back
}

func (s *server) set(conf *config, front, back *fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conf, s.front, s.back = conf, front, back
}

func (s *server) kill() {
	s.lifecycle.Lock()
	s.prosody.stop()
}

// bootstrap goes from nothing to a Prosody with its bootstrap configuration.
func (s *server) bootstrap() error {
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	return s.doBootstrap()
}

func (s *server) doBootstrap() error {
	conf, _, _ := s.state()
	if err := os.MkdirAll(certsDir, 0o777); err != nil {
		return fmt.Errorf("creating Prosody's certs directory: %w", err)
	}
	if err := makeSalt(); err != nil {
		return err
	}
	s.noticeForeignConfig()
	text := strings.NewReplacer(
		"{{domain}}", conf.domain,
		"{{hostname}}", conf.hostname,
		"{{log_level}}", prosodyLevel(conf.prosodyLog),
	).Replace(bootstrapConfig)
	if err := os.WriteFile(prosodyConfig, []byte(text), 0o666); err != nil {
		return fmt.Errorf("writing Prosody's configuration: %w", err)
	}

	s.accounts = &accounts{
		base: "http://" + net.JoinHostPort(conf.hostname, strconv.Itoa(conf.httpPort)),
		key:  secret(),
	}
	if err := s.prosody.start(s.accounts.key); err != nil {
		return err
	}
	err := s.prosody.until(30*time.Second, "Prosody's shell", func(ctx context.Context) error {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "unix", shellSocket)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		return err
	}
	err = s.prosody.until(30*time.Second, "Prosody's accounts", func(ctx context.Context) error {
		return s.accounts.put(ctx, conf.workspace, secret(), "prosody:registered", true)
	})
	if err != nil {
		return fmt.Errorf("setting the workspace's password: %w", err)
	}
	s.readWorkspace()
	s.set(conf, nil, nil)
	return nil
}

// prosodyLevel is the level in Prosody's words: it has no trace.
func prosodyLevel(level string) string {
	if level == "trace" {
		return "debug"
	}
	return level
}

// secret returns a random password of 160 bits.
func secret() string {
	var b [20]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// makeSalt creates the salt unless it is there.
func makeSalt() error {
	if f, err := os.Open(saltPath); err == nil {
		return f.Close()
	}
	f, err := os.OpenFile(saltPath, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return fmt.Errorf("creating the salt: %w", err)
	}
	defer f.Close()
	var salt [256]byte
	rand.Read(salt[:])
	if _, err := f.Write(salt[:]); err != nil {
		return fmt.Errorf("writing the salt: %w", err)
	}
	return f.Close()
}

// noticeForeignConfig says that a configuration which is not Prose's will be
// kept. It is not: upstream only says so.
func (s *server) noticeForeignConfig() {
	text, err := os.ReadFile(prosodyConfig)
	if err == nil && !bytes.HasPrefix(text, []byte("-- Prose Pod Server")) {
		s.log.Infof("%s is not from Prose and will be backed up.", prosodyConfig)
	}
}

// hangup is a reload by signal. Its failure is only logged.
func (s *server) hangup() {
	if f := s.reload(); f != nil {
		s.log.Errorf("%s: %s", f.code, f.text)
	}
}

// reload reads prose.toml again and, if that is good, makes Prosody read its
// configuration again. A bad prose.toml leaves Prosody alone.
func (s *server) reload() *fault {
	if _, _, back := s.state(); back != nil && back != stopped {
		return back
	}
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	old, front, back := s.state()
	if back != nil && back != stopped {
		return back
	}
	if f := s.reloadFront(old); f != nil {
		return f
	}
	if back == stopped && front == badConfig {
		conf, _, _ := s.state()
		s.set(conf, nil, starting)
		if err := s.doBootstrap(); err != nil {
			s.log.Errorf("%v", err)
			s.set(conf, nil, internal("START_FAILED"))
			return internal("START_FAILED")
		}
		return nil
	}
	return s.reloadBack()
}

func either(faults ...*fault) *fault {
	for _, f := range faults {
		if f != nil {
			return f
		}
	}
	return nil
}

// reloadFront reads prose.toml again. The domain may be set, not changed.
func (s *server) reloadFront(old *config) *fault {
	conf, err := loadConfig(prosetoml.Path, os.Environ())
	_, _, back := s.state()
	if err == nil && back == nil && conf.domain != old.domain {
		err = errors.New("the server domain cannot be changed")
	}
	if err != nil {
		s.log.Errorf("reloading: %s: %v", invalid, err)
		s.set(old, badConfig, back)
		return badConfig
	}
	s.log.Set(conf.logLevel, old.logFormat, old.logTimer)
	conf.logFormat, conf.logTimer = old.logFormat, old.logTimer
	s.set(conf, nil, back)
	return nil
}

// reloadBack returns when Prosody has applied its configuration.
func (s *server) reloadBack() *fault {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	before, err := s.accounts.reloads(ctx)
	if err == nil {
		err = s.prosody.hangup()
	}
	if err == nil {
		err = s.prosody.until(10*time.Second, "Prosody to apply its configuration", func(ctx context.Context) error {
			n, err := s.accounts.reloads(ctx)
			if err == nil && n == before {
				err = errors.New("not applied")
			}
			return err
		})
	}
	if err != nil {
		s.log.Errorf("reloading Prosody: %v", err)
		return internal("INTERNAL_ERROR")
	}
	return nil
}

// restartBack stops and starts Prosody with the configuration that is there.
func (s *server) restartBack() *fault {
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	conf, front, _ := s.state()
	s.prosody.stop()
	s.set(conf, front, restarting)
	if err := s.prosody.start(s.accounts.key); err != nil {
		s.log.Errorf("restarting Prosody: %v", err)
		s.set(conf, front, internal("RESTART_FAILED"))
		return internal("RESTART_FAILED")
	}
	s.set(conf, front, nil)
	return nil
}

// factoryReset empties what Prosody has and prose.toml, then starts anew if
// the environment alone is configuration enough.
func (s *server) factoryReset() *fault {
	s.lifecycle.Lock()
	defer s.lifecycle.Unlock()
	old, _, _ := s.state()
	s.set(old, resetting, resetting)
	s.prosody.stop()
	err := emptyDir(filepath.Dir(prosodyConfig))
	if err == nil {
		err = emptyDir(prosodyData)
	}
	if err == nil {
		err = truncate(prosetoml.Path)
	}
	if err != nil {
		s.log.Errorf("factory reset: %v", err)
		return internal("FACTORY_RESET_FAILED")
	}
	conf, err := loadConfig(prosetoml.Path, os.Environ())
	if err != nil {
		s.log.Warnf("reset, and waiting for a configuration: %v", err)
		s.set(old, badConfig, stopped)
		return nil
	}
	s.set(conf, nil, starting)
	if err := s.doBootstrap(); err != nil {
		s.log.Errorf("starting after a factory reset: %v", err)
		s.set(conf, nil, internal("START_FAILED"))
		return internal("START_FAILED")
	}
	return nil
}

func truncate(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return fmt.Errorf("resetting the configuration: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteString(emptyConfig); err != nil {
		return fmt.Errorf("resetting the configuration: %w", err)
	}
	return f.Close()
}

func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("emptying %s: %w", dir, err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("emptying %s: %w", dir, err)
		}
	}
	return nil
}

// The workspace lies beside the accounts, as upstream's does in the vCard of
// the workspace's account.
const workspacePath = prosodyData + "/workspace.json"

func (s *server) readWorkspace() {
	text, err := os.ReadFile(workspacePath)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.space = workspace{}
	if err == nil {
		err = json.Unmarshal(text, &s.space)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Errorf("Reading the workspace: %v", err)
	}
	if s.space.Name == "" {
		s.space.Name = s.conf.domain
	}
}

func (s *server) writeWorkspace(w workspace) error {
	text, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if err := os.WriteFile(workspacePath+".new", text, 0o640); err != nil {
		return err
	}
	if err := os.Rename(workspacePath+".new", workspacePath); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.space = w
	return nil
}

func (f *fault) write(w http.ResponseWriter) {
	if f.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(f.retry))
	}
	reply(w, f.status, map[string]any{
		"error": true, "kind": f.kind, "code": f.code, "message": f.text, "description": f.hint,
	})
}

func reply(w http.ResponseWriter, status int, v any) {
	if v == nil {
		w.WriteHeader(status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
