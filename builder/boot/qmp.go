package boot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// A monitor is a connection to QEMU's QMP socket (QEMU's docs/interop/qmp-spec).
type monitor struct {
	mu   sync.Mutex
	conn net.Conn
	in   *bufio.Reader
}

// dial connects as soon as QEMU listens, which it does within a second or not
// at all. ended is closed when QEMU ends.
func dial(ctx context.Context, socket string, ended <-chan struct{}) (*monitor, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 30*time.Second, errors.New("QEMU does not listen after 30 s"))
	defer cancel()
	for {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			m := &monitor{conn: conn, in: bufio.NewReader(conn)}
			// The greeting needs no answer; commands do not work before this one.
			if _, err := m.run(ctx, "qmp_capabilities", nil); err != nil {
				conn.Close()
				return nil, err
			}
			return m, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ended:
			return nil, errEnded
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for QEMU's monitor: %w", context.Cause(ctx))
		}
	}
}

var errEnded = errors.New("the machine has ended")

// run gives one command and waits for its answer; events are passed over.
func (m *monitor) run(ctx context.Context, command string, arguments any) (json.RawMessage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fail := func(err error) (json.RawMessage, error) {
		return nil, fmt.Errorf("telling QEMU %s: %w", command, err)
	}
	end := time.Now().Add(30 * time.Second)
	if t, ok := ctx.Deadline(); ok && t.Before(end) {
		end = t
	}
	if err := m.conn.SetDeadline(end); err != nil {
		return fail(err)
	}
	request := struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return fail(err)
	}
	for {
		line, err := m.in.ReadBytes('\n')
		if err != nil {
			return fail(err)
		}
		var answer struct {
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := json.Unmarshal(line, &answer); err != nil {
			return fail(err)
		}
		switch {
		case answer.Error != nil:
			return fail(errors.New(answer.Error.Desc))
		case answer.Return != nil:
			return answer.Return, nil
		}
	}
}

// forwards asks which ports of the host QEMU has really taken.
func (m *monitor) forwards(ctx context.Context, wanted []Forward) ([]Forward, error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	answer, err := m.run(ctx, "human-monitor-command", map[string]string{"command-line": "info usernet"})
	if err != nil {
		return nil, err
	}
	var text string
	if err := json.Unmarshal(answer, &text); err != nil {
		return nil, fmt.Errorf("reading QEMU's forwarded ports: %w", err)
	}
	return parseUsernet(text, wanted)
}

// usernetLine is a line of "info usernet" such as
//
//	TCP[HOST_FORWARD]  12       127.0.0.1 40101       10.0.2.15    22     0     0
var usernetLine = regexp.MustCompile(`(?m)^ *TCP\[HOST_FORWARD\] +\d+ +\S+ +(\d+) +\S+ +(\d+) `)

// parseUsernet fills in the ports that were left to QEMU. Guest ports may
// repeat.
func parseUsernet(text string, wanted []Forward) ([]Forward, error) {
	have := map[int][]int{}
	for _, m := range usernetLine.FindAllStringSubmatch(text, -1) {
		from, err1 := strconv.Atoi(m[1])
		to, err2 := strconv.Atoi(m[2])
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("reading QEMU's forwarded ports: %w", err)
		}
		have[to] = append(have[to], from)
	}
	take := func(guest int, ok func(int) bool) int {
		for i, p := range have[guest] {
			if ok(p) {
				have[guest] = append(have[guest][:i], have[guest][i+1:]...)
				return p
			}
		}
		return 0
	}
	got := append([]Forward(nil), wanted...)
	for _, f := range got {
		if f.Host != 0 {
			take(f.Guest, func(p int) bool { return p == f.Host })
		}
	}
	for i, f := range got {
		if f.Host == 0 {
			if got[i].Host = take(f.Guest, func(int) bool { return true }); got[i].Host == 0 {
				return nil, fmt.Errorf("reading QEMU's forwarded ports: none leads to %d", f.Guest)
			}
		}
	}
	return got, nil
}
