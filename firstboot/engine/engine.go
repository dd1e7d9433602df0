// Package engine is a client of the Docker Engine API, as far as the agent needs
// it: version 1.43 of the API (Docker 24 and later) over the engine's socket.
//
// Source of paths, fields and statuses: the Engine API reference, v1.43.
package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Socket is where the engine listens on our machines.
const Socket = "/run/docker.sock"

const (
	// apiVersion is spoken by every engine of our images, 26 and later.
	apiVersion = "1.43"
	// maxBody limits an answer: an inspect is some ten kilobytes.
	maxBody = 4 << 20
	// quick is for calls that only look, slow for calls that make the engine
	// work, on machines that are emulated.
	quick = 30 * time.Second
	slow  = 5 * time.Minute
	// pulling is for hundreds of megabytes over a thin line.
	pulling = 30 * time.Minute
)

// Errors that callers decide on, for errors.Is.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("conflict")
)

// An Error is an answer that is no success.
type Error struct {
	Call    string // method and path
	Status  int
	Message string // the engine's words
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: status %d: %s", e.Call, e.Status, e.Message)
}

// Is makes an Error one of ErrNotFound (404) and ErrConflict (409).
func (e *Error) Is(target error) bool {
	return target == ErrNotFound && e.Status == http.StatusNotFound || target == ErrConflict && e.Status == http.StatusConflict
}

// A Client speaks to one engine. It can be used by many at once.
type Client struct {
	http *http.Client
}

// New returns a client of the engine behind a socket. Nothing is dialled yet.
func New(socket string) *Client {
	var d net.Dialer
	return &Client{&http.Client{
		Transport: &http.Transport{
			DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) },
			MaxIdleConns:    2,
			IdleConnTimeout: 10 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// call does one request. in is sent as JSON unless nil; the answer is read into
// out unless nil. 304, which says that nothing had to be done, is a success.
func (c *Client) call(ctx context.Context, limit time.Duration, method, path string, query url.Values, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	res, err := c.do(ctx, method, path, query, in)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err != nil {
		return fmt.Errorf("reading the answer to %s %s: %w", method, path, err)
	}
	if len(body) > maxBody {
		return fmt.Errorf("reading the answer to %s %s: more than %d bytes", method, path, maxBody)
	}
	if out == nil || len(body) == 0 {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("reading the answer to %s %s: %w", method, path, err)
	}
	return nil
}

// do sends a request and gives its answer if that is a success.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	to := url.URL{Scheme: "http", Host: "docker", Path: "/v" + apiVersion + path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, to.String(), body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("calling the engine: %w", err)
	}
	if res.StatusCode < 300 || res.StatusCode == http.StatusNotModified {
		return res, nil
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("reading the answer to %s %s: %w", method, path, err)
	}
	var said struct{ Message string }
	if json.Unmarshal(b, &said) != nil || said.Message == "" {
		said.Message = strings.TrimSpace(string(b[:min(len(b), 512)]))
	}
	return nil, &Error{method + " " + path, res.StatusCode, said.Message}
}

// Version says which engine answers.
type Version struct {
	Version       string
	APIVersion    string `json:"ApiVersion"`
	MinAPIVersion string
}

// Version asks the engine for its version.
func (c *Client) Version(ctx context.Context) (Version, error) {
	var v Version
	err := c.call(ctx, quick, http.MethodGet, "/version", nil, nil, &v)
	return v, err
}

// byLabels is the filters parameter for things that carry all labels, each KEY
// or KEY=VALUE.
func byLabels(labels []string) url.Values {
	if len(labels) == 0 {
		return url.Values{}
	}
	b, err := json.Marshal(map[string][]string{"label": labels})
	if err != nil {
		panic(err) // strings always marshal
	}
	return url.Values{"filters": {string(b)}}
}

// An Image is what the engine says of one.
type Image struct {
	ID          string `json:"Id"`
	RepoTags    []string
	RepoDigests []string
}

// Image looks up an image by any reference: name, digest or id.
func (c *Client) Image(ctx context.Context, reference string) (Image, error) {
	var i Image
	err := c.call(ctx, quick, http.MethodGet, "/images/"+reference+"/json", nil, nil, &i)
	return i, err
}

// Pull fetches an image from its registry, without credentials. It ends with
// ctx, or after half an hour; the engine goes on where it was when it is called again.
func (c *Client) Pull(ctx context.Context, reference string) error {
	ctx, cancel := context.WithTimeout(ctx, pulling)
	defer cancel()
	res, err := c.do(ctx, http.MethodPost, "/images/create", url.Values{"fromImage": {reference}}, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	// Progress, line by line; an error comes in it after the status 200.
	lines := json.NewDecoder(io.LimitReader(res.Body, 64<<20))
	for {
		var line struct{ Error string }
		if err := lines.Decode(&line); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("pulling %s: %w", reference, err)
		}
		if line.Error != "" {
			return fmt.Errorf("pulling %s: %s", reference, line.Error)
		}
	}
}

// A Network is a network to create, or one that is there.
type Network struct {
	ID             string `json:"Id,omitempty"`
	Name           string
	Driver         string
	EnableIPv6     bool
	IPAM           IPAM
	Internal       bool
	Labels         map[string]string
	CheckDuplicate bool `json:",omitempty"` // to create: two networks may else share a name
}

// IPAM says where a network's addresses come from; without Config from the
// engine's pools.
type IPAM struct {
	Driver string `json:",omitempty"`
	Config []Pool `json:",omitempty"`
}

// A Pool is a subnet of a network.
type Pool struct {
	Subnet  string `json:",omitempty"`
	IPRange string `json:",omitempty"`
	Gateway string `json:",omitempty"`
}

// Networks lists networks by labels.
func (c *Client) Networks(ctx context.Context, labels ...string) ([]Network, error) {
	var list []Network
	err := c.call(ctx, quick, http.MethodGet, "/networks", byLabels(labels), nil, &list)
	return list, err
}

// CreateNetwork creates a network. A second one of that name is ErrConflict.
func (c *Client) CreateNetwork(ctx context.Context, n Network) error {
	n.CheckDuplicate = true
	return c.call(ctx, slow, http.MethodPost, "/networks/create", nil, n, nil)
}

// RemoveNetwork removes a network that no container is in.
func (c *Client) RemoveNetwork(ctx context.Context, name string) error {
	return c.call(ctx, slow, http.MethodDelete, "/networks/"+name, nil, nil, nil)
}

// Connect puts a container into one more network.
func (c *Client) Connect(ctx context.Context, network, container string, e Endpoint) error {
	in := struct {
		Container      string
		EndpointConfig Endpoint
	}{container, e}
	return c.call(ctx, slow, http.MethodPost, "/networks/"+network+"/connect", nil, in, nil)
}

// A Volume is a named volume to create, or one that is there.
type Volume struct {
	Name   string
	Driver string `json:",omitempty"`
	Labels map[string]string
}

// Volumes lists volumes by labels.
func (c *Client) Volumes(ctx context.Context, labels ...string) ([]Volume, error) {
	var out struct{ Volumes []Volume }
	err := c.call(ctx, quick, http.MethodGet, "/volumes", byLabels(labels), nil, &out)
	return out.Volumes, err
}

// CreateVolume creates a volume; one that is there is left as it is.
func (c *Client) CreateVolume(ctx context.Context, v Volume) error {
	return c.call(ctx, slow, http.MethodPost, "/volumes/create", nil, v, nil)
}

// RemoveVolume removes a volume and what is in it.
func (c *Client) RemoveVolume(ctx context.Context, name string) error {
	return c.call(ctx, slow, http.MethodDelete, "/volumes/"+url.PathEscape(name), nil, nil, nil)
}

// Config is a container to create.
type Config struct {
	Image            string
	User             string              `json:",omitempty"`
	Env              []string            `json:",omitempty"` // KEY=VALUE
	Cmd              []string            `json:",omitempty"` // nil: the image's
	Entrypoint       []string            `json:",omitempty"` // nil: the image's
	Tty              bool                `json:",omitempty"`
	AttachStdout     bool                `json:",omitempty"`
	AttachStderr     bool                `json:",omitempty"`
	Healthcheck      *Healthcheck        `json:",omitempty"` // nil: the image's
	ExposedPorts     map[string]struct{} `json:",omitempty"` // "5222/tcp"
	Labels           map[string]string
	HostConfig       HostConfig
	NetworkingConfig Networking
}

// Healthcheck is a health check; the Test NONE switches the image's off.
type Healthcheck struct {
	Test []string
}

// HostConfig is what a container gets of the machine.
type HostConfig struct {
	NetworkMode    string               `json:",omitempty"`
	PortBindings   map[string][]Binding `json:",omitempty"`
	Mounts         []Mount              `json:",omitempty"`
	Tmpfs          map[string]string    `json:",omitempty"`
	RestartPolicy  RestartPolicy
	LogConfig      LogConfig
	CapAdd         []string `json:",omitempty"`
	CapDrop        []string `json:",omitempty"`
	SecurityOpt    []string `json:",omitempty"`
	PidsLimit      *int64   `json:",omitempty"`
	ReadonlyRootfs bool     `json:",omitempty"`
	Init           *bool    `json:",omitempty"`
}

// A Binding is a port of the machine; no HostIP is every address.
type Binding struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

// A Mount is a directory of the machine, which must exist, or a named volume.
type Mount struct {
	Type     string // bind, volume
	Source   string
	Target   string
	ReadOnly bool `json:",omitempty"`
}

// RestartPolicy says when the engine itself starts a container again.
type RestartPolicy struct {
	Name              string
	MaximumRetryCount int `json:",omitempty"`
}

// LogConfig says where a container's output goes; empty: the engine's choice.
type LogConfig struct {
	Type   string            `json:",omitempty"`
	Config map[string]string `json:",omitempty"`
}

// Networking is the networks of a container. The first is given at its creation.
type Networking struct {
	EndpointsConfig map[string]Endpoint `json:",omitempty"`
}

// An Endpoint is a container's place in a network.
type Endpoint struct {
	Aliases           []string `json:",omitempty"`
	IPAddress         string   `json:",omitempty"` // read only
	GlobalIPv6Address string   `json:",omitempty"` // read only
}

// Create creates a container and returns its id. A name that is taken is
// ErrConflict, an image that is missing ErrNotFound.
func (c *Client) Create(ctx context.Context, name string, config Config) (string, error) {
	var out struct {
		ID string `json:"Id"`
	}
	err := c.call(ctx, slow, http.MethodPost, "/containers/create", url.Values{"name": {name}}, config, &out)
	return out.ID, err
}

// Start starts a container; one that runs is left alone.
func (c *Client) Start(ctx context.Context, id string) error {
	return c.call(ctx, slow, http.MethodPost, "/containers/"+id+"/start", nil, nil, nil)
}

// Stop stops a container: its stop signal, and after patience SIGKILL.
func (c *Client) Stop(ctx context.Context, id string, patience time.Duration) error {
	return c.call(ctx, slow, http.MethodPost, "/containers/"+id+"/stop", seconds(patience), nil, nil)
}

// Restart stops and starts a container.
func (c *Client) Restart(ctx context.Context, id string, patience time.Duration) error {
	return c.call(ctx, slow, http.MethodPost, "/containers/"+id+"/restart", seconds(patience), nil, nil)
}

func seconds(d time.Duration) url.Values {
	return url.Values{"t": {strconv.Itoa(int(d.Seconds()))}}
}

// Unpause lets a paused container go on.
func (c *Client) Unpause(ctx context.Context, id string) error {
	return c.call(ctx, slow, http.MethodPost, "/containers/"+id+"/unpause", nil, nil, nil)
}

// Kill sends a signal, such as SIGHUP. A container that does not run is
// ErrConflict.
func (c *Client) Kill(ctx context.Context, id, signal string) error {
	return c.call(ctx, slow, http.MethodPost, "/containers/"+id+"/kill", url.Values{"signal": {signal}}, nil, nil)
}

// Remove removes a container, running or not. Its volumes stay.
func (c *Client) Remove(ctx context.Context, id string) error {
	return c.call(ctx, slow, http.MethodDelete, "/containers/"+id, url.Values{"force": {"1"}}, nil, nil)
}

// A Container is what the engine says of one.
type Container struct {
	ID      string `json:"Id"`
	Name    string // with a slash in front
	Created time.Time
	Image   string // the image's id
	State   struct {
		Status     string // created, running, paused, restarting, removing, exited, dead
		ExitCode   int
		Error      string
		StartedAt  time.Time // year 1: never
		FinishedAt time.Time // the same
	}
	RestartCount int
	Config       struct {
		Labels map[string]string
	}
	NetworkSettings struct {
		Networks map[string]Endpoint
	}
}

// Inspect looks at a container, by id or name.
func (c *Client) Inspect(ctx context.Context, id string) (Container, error) {
	var out Container
	err := c.call(ctx, quick, http.MethodGet, "/containers/"+id+"/json", nil, nil, &out)
	return out, err
}

// A Listed container is what the engine says of one without a look at it.
type Listed struct {
	ID     string            `json:"Id"`
	Names  []string          `json:"Names"` // each with a slash before it
	Image  string            `json:"ImageID"`
	State  string            `json:"State"`
	Labels map[string]string `json:"Labels"`
}

// Containers lists containers by labels, in whatever state they are. Other than
// [Client.Inspect] it does not wait for one that is being started: the engine
// keeps that locked until it runs.
func (c *Client) Containers(ctx context.Context, labels ...string) (list []Listed, err error) {
	query := byLabels(labels)
	query.Set("all", "1")
	err = c.call(ctx, quick, http.MethodGet, "/containers/json", query, nil, &list)
	return list, err
}

// Logs gives the last lines of what a container wrote, both streams as they
// came, at most a mebibyte.
func (c *Client) Logs(ctx context.Context, id string, lines int) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	query := url.Values{"stdout": {"1"}, "stderr": {"1"}, "tail": {strconv.Itoa(lines)}}
	res, err := c.do(ctx, http.MethodGet, "/containers/"+id+"/logs", query, nil)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("reading the log of %s: %w", id, err)
	}
	// A terminal's stream is raw, others are in frames.
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/vnd.docker.raw-stream") {
		return string(b), nil
	}
	return unframe(b), nil
}

// unframe takes the frames of a multiplexed stream apart: a byte for the stream
// (at most 2), three zeros, the length as a big-endian 32-bit number, the bytes.
// What is no frame is given as it is.
func unframe(b []byte) string {
	var out strings.Builder
	for len(b) >= 8 && b[0] <= 2 && b[1] == 0 && b[2] == 0 && b[3] == 0 {
		n := int(b[4])<<24 | int(b[5])<<16 | int(b[6])<<8 | int(b[7])
		b = b[8:]
		n = min(max(n, 0), len(b))
		out.Write(b[:n])
		b = b[n:]
	}
	out.Write(b)
	return out.String()
}
