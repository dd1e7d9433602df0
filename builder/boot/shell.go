package boot

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// A Key opens a guest whose seed has its public half.
type Key struct {
	signer  ssh.Signer
	private []byte
}

// NewKey makes a key that nobody else has.
func NewKey() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making an SSH key: %w", err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, fmt.Errorf("making an SSH key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, fmt.Errorf("making an SSH key: %w", err)
	}
	return &Key{signer, pem.EncodeToMemory(block)}, nil
}

// Private is the secret half, as ssh(1) reads it.
func (k *Key) Private() []byte { return k.private }

// Authorized is the public half, as authorized_keys has it.
func (k *Key) Authorized() string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k.signer.PublicKey())))
}

// A Shell runs commands in a guest over SSH.
type Shell struct {
	HostKey string // the guest's, as known_hosts has it

	vm     *VM
	user   string
	client *ssh.Client
}

// SSH logs in through the port that is forwarded to the guest's port 22, as
// soon as the guest lets it. The guest's key is not checked: the port is our
// own and the guest has made its key a moment ago.
func (vm *VM) SSH(ctx context.Context, user string, key *Key) (*Shell, error) {
	port := vm.Port(22)
	if port == 0 {
		return nil, errors.New("logging in over SSH: no port is forwarded to the guest's port 22")
	}
	within := vm.Accel.Budget(ToSSH)
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("%s are over", within))
	defer cancel()
	address := net.JoinHostPort(vm.address, strconv.Itoa(port))
	s := &Shell{vm: vm, user: user}
	config := &ssh.ClientConfig{
		User: user,
		Auth: []ssh.AuthMethod{ssh.PublicKeys(key.signer)},
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			s.HostKey = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
			return nil
		},
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoRSASHA512},
	}
	// QEMU takes connections before the guest does, so only a whole handshake
	// counts, and one that is stuck must be given up.
	const attempt = 30 * time.Second
	var last error
	for {
		conn, err := (&net.Dialer{Timeout: attempt}).DialContext(ctx, "tcp", address)
		if err == nil {
			_ = conn.SetDeadline(time.Now().Add(attempt))
			stop := context.AfterFunc(ctx, func() { conn.Close() })
			var c ssh.Conn
			var channels <-chan ssh.NewChannel
			var requests <-chan *ssh.Request
			if c, channels, requests, err = ssh.NewClientConn(conn, address, config); err == nil && stop() {
				_ = conn.SetDeadline(time.Time{})
				s.client = ssh.NewClient(c, channels, requests)
				return s, nil
			}
			stop()
			conn.Close()
		}
		if ctx.Err() == nil {
			last = err
		}
		fail := func(err error, why string) error {
			return vm.waitError("SSH as "+user, address, err, fmt.Sprintf("%s (last answer: %v)", why, last))
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
			return nil, fail(context.Cause(ctx), context.Cause(ctx).Error())
		case <-vm.done:
			return nil, fail(vm.err, "the machine has ended")
		}
	}
}

// A RunError is a script that ended badly in a guest.
type RunError struct {
	Script string
	Stdout string
	Stderr string
	Err    error // *ssh.ExitError, or why there was no end
}

func (e *RunError) Error() string {
	s := fmt.Sprintf("running in the guest: %s\n%v", strings.TrimSpace(e.Script), e.Err)
	for _, out := range []string{e.Stdout, e.Stderr} {
		if out = strings.TrimSpace(out); out != "" {
			s += "\n" + out
		}
	}
	return s
}

func (e *RunError) Unwrap() error { return e.Err }

// Run runs a shell script as the user that logged in and returns what it wrote
// to its standard output. It ends at the first command that fails. Without a
// deadline in ctx it may take as long as one short command.
func (s *Shell) Run(ctx context.Context, script string) (string, error) {
	return s.run(ctx, script, "sh -euc "+quote(script))
}

// Root runs a script as root, by sudo if need be.
func (s *Shell) Root(ctx context.Context, script string) (string, error) {
	command := "sh -euc " + quote(script)
	if s.user != "root" {
		command = "sudo -n -- " + command
	}
	return s.run(ctx, script, command)
}

func (s *Shell) run(ctx context.Context, script, command string) (string, error) {
	if _, ok := ctx.Deadline(); !ok {
		within := s.vm.Accel.Budget(Command)
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, within, fmt.Errorf("%s are over", within))
		defer cancel()
	}
	var stdout, stderr bytes.Buffer
	fail := func(err error) (string, error) {
		return stdout.String(), &RunError{Script: script, Stdout: stdout.String(), Stderr: stderr.String(), Err: err}
	}
	type result struct {
		session *ssh.Session
		err     error
	}
	opened := make(chan result, 1)
	go func() { // it has no deadline of its own
		session, err := s.client.NewSession()
		opened <- result{session, err}
	}()
	var session *ssh.Session
	select {
	case r := <-opened:
		if r.err != nil {
			return fail(r.err)
		}
		session = r.session
	case <-ctx.Done():
		s.client.Close()
		return fail(context.Cause(ctx))
	}
	defer session.Close()
	session.Stdout, session.Stderr = &stdout, &stderr
	ended := make(chan error, 1)
	go func() { ended <- session.Run(command) }()
	select {
	case err := <-ended:
		if err != nil {
			return fail(err)
		}
		return stdout.String(), nil
	case <-ctx.Done():
		// The next script should still find a connection. If the guest does
		// not answer, only the end of that ends the copying of output.
		go func() {
			_ = session.Signal(ssh.SIGKILL)
			_ = session.Close()
		}()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			s.client.Close()
			<-ended
		}
		return fail(context.Cause(ctx))
	case <-s.vm.done:
		s.client.Close()
		<-ended
		return fail(errEnded)
	}
}

// Close logs out.
func (s *Shell) Close() error { return s.client.Close() }

// quote makes one word of a script, for sh.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
