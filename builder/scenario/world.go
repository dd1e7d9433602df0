package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prose-im/prose-image/builder/host"
)

// The addresses of the world. They belong to somebody else, which does not
// matter: they exist in our namespace only, and the guest takes them for public.
const (
	Address   = "1.2.3.4" // the machine's
	elsewhere = "1.2.3.5" // another machine's, where nobody answers until a step says so
	metadata  = "169.254.169.254"
)

// ports of the machine that lead from Address to the guest. Most of them must
// turn out closed; the guest decides that, not the way to it.
var ports = []int{22, 80, 443, 5222, 5269, 5280, 5281, 8080, 8081}

// Where the world listens. The guest reaches the loopback addresses at
// 10.0.2.2, see QEMU's documentation of user networking.
const (
	dnsAddress        = "127.0.0.1:53" // ours, before pebble-challtestsrv
	challengeDNS      = "127.0.0.1:5353"
	dnsManagement     = "127.0.0.1:8055"
	acmeAddress       = "127.0.0.1:14000" // ours, before Pebble
	pebbleAddress     = "127.0.0.1:14001"
	pebbleManagement  = "127.0.0.1:15000"
	acmeDirectory     = "https://10.0.2.2:14000/dir"
	guestNameserver   = "10.0.2.2"
	metadataSecret    = "metadata-of-this-machine"
	listenWithin      = 30 * time.Second
	worldShutsDownFor = 5 * time.Second
)

// A world is what is around the machine.
type world struct {
	ctx       context.Context
	stop      context.CancelFunc
	dir       string // for keys
	logs      string
	tools     string
	names     *nameServer
	authority *authority
	website   *website // nil until a step makes it
	servers   []*http.Server
	processes []chan struct{} // closed at the end of each
}

// Tools are the programs that the world needs beside QEMU.
var Tools = []string{"pebble", "pebble-challtestsrv"}

// A MissingError is a program of the world that is not there.
type MissingError struct{ Name, Dir string }

func (e *MissingError) Error() string { return fmt.Sprintf("there is no %s in %s", e.Name, e.Dir) }

// Hint is the next thing to type.
func (e *MissingError) Hint() string {
	return "make build makes it; --tools names the directory where it is"
}

// LookTools looks for the programs in a directory.
func LookTools(dir string) error {
	var missing []error
	for _, name := range Tools {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.IsDir() {
			missing = append(missing, &MissingError{name, dir})
		}
	}
	return errors.Join(missing...)
}

// network brings up what a new namespace has: the loopback device, with the
// addresses of the world.
func network(ctx context.Context) error {
	commands := [][]string{{"ip", "link", "set", "lo", "up"}}
	for _, a := range []string{Address, elsewhere, metadata} {
		commands = append(commands, []string{"ip", "address", "replace", a + "/32", "dev", "lo"})
	}
	for _, args := range commands {
		if err := host.Run(ctx, host.Command{Args: args}); err != nil {
			return fmt.Errorf("preparing the network: %w", err)
		}
	}
	return nil
}

// newWorld starts the authority, the name server and the metadata service.
func newWorld(ctx context.Context, dir, logs, tools string) (_ *world, err error) {
	w := &world{dir: dir, logs: logs, tools: tools}
	w.ctx, w.stop = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if err := w.start("pebble-challtestsrv", nil, "-dnsserver", challengeDNS, "-management", dnsManagement,
		"-defaultIPv4", "", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""); err != nil {
		return nil, err
	}
	if err := listening(w.ctx, "the name server", dnsManagement); err != nil {
		return nil, err
	}
	w.names = &nameServer{}
	if err := w.names.services.serve(w.ctx, dnsAddress, challengeDNS); err != nil {
		return nil, err
	}
	if w.authority, err = newAuthority(w); err != nil {
		return nil, err
	}
	return w, w.serve("the metadata service", net.JoinHostPort(metadata, "80"), &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(rw, metadataSecret)
	})}, "", "")
}

// start starts a program of the world; what it says is kept in a file.
func (w *world) start(name string, env []string, args ...string) error {
	log, err := os.Create(filepath.Join(w.logs, name+".log"))
	if err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	p, err := host.Start(w.ctx, host.Command{
		Args: append([]string{filepath.Join(w.tools, name)}, args...), Env: env, Stdout: log, Stderr: log, Tied: true,
	})
	if err != nil {
		log.Close()
		return err
	}
	done := make(chan struct{})
	w.processes = append(w.processes, done)
	go func() {
		_ = p.Wait() // an end that nobody asked for shows in what asks it next
		log.Close()
		close(done)
	}()
	return nil
}

// serve starts a server in this process, with TLS when there is a certificate.
func (w *world) serve(what, address string, s *http.Server, certificate, key string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("starting %s: %w", what, err)
	}
	s.ReadHeaderTimeout = 30 * time.Second
	w.servers = append(w.servers, s)
	go func() {
		if certificate != "" {
			_ = s.ServeTLS(l, certificate, key)
		} else {
			_ = s.Serve(l)
		}
	}()
	return nil
}

func (w *world) close() {
	w.stop()
	for _, s := range w.servers {
		s.Close()
	}
	for _, done := range w.processes {
		select {
		case <-done:
		case <-time.After(worldShutsDownFor):
		}
	}
}

// listening waits until something takes connections.
func listening(ctx context.Context, what, address string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, listenWithin, fmt.Errorf("%s are over", listenWithin))
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to listen on %s: %w", what, address, context.Cause(ctx))
		}
	}
}

// forward leads connections to an address of the machine. Listeners keep the
// namespace that they were made in, so the caller's may be in the host's.
func forward(l net.Listener, to string) {
	for {
		in, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer in.Close()
			out, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			defer out.Close()
			done := make(chan struct{}, 2)
			copyTo := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				if t, ok := to.(*net.TCPConn); ok {
					_ = t.CloseWrite()
				}
				done <- struct{}{}
			}
			go copyTo(out, in)
			go copyTo(in, out)
			<-done
			<-done
		}()
	}
}
