package dockerstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// A registry is one repository of an OCI registry (OCI distribution-spec v1.1,
// "Pull").
type registry struct {
	client *http.Client
	base   *http.Transport
	repo   name.Repository
	scheme string
	image  Reference
}

// stall is how long a registry may be silent within one answer.
const stall = time.Minute

// attempts is how often in a row a download may break off without a byte read
// before it counts as failed.
const attempts = 3

func openRegistry(ctx context.Context, loc location, image Reference) (origin, error) {
	var opts []name.Option
	scheme := "https"
	if loc.plain {
		opts = append(opts, name.Insecure)
		scheme = "http" // the transport puts https when that is what answers
	}
	reg, err := name.NewRegistry(loc.host, opts...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", loc, err)
	}
	repo := reg.Repo(loc.path)
	auth, err := authn.Resolve(ctx, authn.DefaultKeychain, repo)
	if err != nil {
		return nil, fmt.Errorf("reading the credentials for %s: %w", loc, err)
	}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.ResponseHeaderTimeout = stall
	r := &registry{base: base, repo: repo, scheme: scheme, image: image}
	var t http.RoundTripper = base
	if !loc.plain {
		t = httpsOnly{t}
	}
	t = transport.NewRetry(t, transport.WithRetryStatusCodes(
		http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout))
	t, err = transport.NewWithContext(ctx, reg, auth, t, []string{repo.Scope(transport.PullScope)})
	if err != nil {
		base.CloseIdleConnections()
		return nil, r.explain(ctx, err, image.String())
	}
	r.client = &http.Client{Transport: t}
	return r, nil
}

func (r *registry) close() { r.base.CloseIdleConnections() }

func (r *registry) manifest(ctx context.Context, tagOrDigest string) ([]byte, error) {
	resp, err := r.get(ctx, "manifests", tagOrDigest, 0)
	if err != nil {
		return nil, r.explain(ctx, err, r.image.String())
	}
	defer resp.Body.Close()
	b, err := readSmall(resp.Body)
	if err != nil {
		return nil, r.explain(ctx, err, r.image.String())
	}
	return b, nil
}

func (r *registry) blob(ctx context.Context, digest string) (io.ReadCloser, error) {
	d := &download{ctx: ctx, r: r, digest: digest}
	if err := d.connect(); err != nil {
		return nil, err
	}
	return d, nil
}

func (r *registry) get(ctx context.Context, kind, id string, from int64) (*http.Response, error) {
	url := fmt.Sprintf("%s://%s/v2/%s/%s/%s", r.scheme, r.repo.RegistryStr(), r.repo.RepositoryStr(), kind, id)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if kind == "manifests" {
		req.Header.Set("Accept", strings.Join([]string{ociIndex, dockerIndex, ociManifest, dockerManifest}, ","))
	}
	if from > 0 {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(from, 10)+"-")
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	if err := transport.CheckError(resp, http.StatusOK, http.StatusPartialContent); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// explain sorts errors into those that the caller can tell apart.
func (r *registry) explain(ctx context.Context, err error, image string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	host := r.repo.RegistryStr()
	if host == name.DefaultRegistry {
		host = defaultDomain
	}
	var answer *transport.Error
	if errors.As(err, &answer) {
		switch answer.StatusCode {
		case http.StatusNotFound:
			return &NotFoundError{Image: image, Where: "registry " + host}
		case http.StatusUnauthorized, http.StatusForbidden:
			return &DeniedError{Image: image, Registry: host, Err: err}
		}
	}
	return &UnreachableError{Registry: host, Err: err}
}

// httpsOnly refuses plain http: go-containerregistry would fall back to it for
// private addresses.
type httpsOnly struct{ http.RoundTripper }

func (t httpsOnly) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" {
		return nil, fmt.Errorf("%s would be read over plain http; write http:// in the mirror to allow it", req.URL.Host)
	}
	return t.RoundTripper.RoundTrip(req)
}

// A download reads a blob, and goes on where it broke off.
type download struct {
	ctx    context.Context
	r      *registry
	digest string

	body   io.ReadCloser // nil when not connected
	stop   context.CancelFunc
	timer  *time.Timer
	skip   int64 // bytes of body that were read before
	read   int64
	broken int // times in a row without a new byte
}

func (d *download) connect() error {
	ctx, stop := context.WithCancelCause(d.ctx)
	d.stop = func() { stop(context.Canceled) }
	d.timer = time.AfterFunc(stall, func() { stop(fmt.Errorf("no data for %s", stall)) })
	resp, err := d.r.get(ctx, "blobs", d.digest, d.read)
	if err != nil {
		d.disconnect()
		return d.r.explain(d.ctx, err, d.r.image.String()+" (blob "+d.digest+")")
	}
	d.body, d.skip = resp.Body, 0
	if resp.StatusCode == http.StatusOK {
		d.skip = d.read // the registry knows no ranges
	}
	return nil
}

func (d *download) disconnect() {
	d.timer.Stop()
	d.stop()
	if d.body != nil {
		d.body.Close()
		d.body = nil
	}
}

func (d *download) Read(p []byte) (int, error) {
	for {
		if d.body == nil {
			if err := d.connect(); err != nil {
				return 0, err
			}
		}
		part := p
		if d.skip > 0 {
			part = p[:min(int64(len(p)), d.skip)]
		}
		n, err := d.body.Read(part)
		if n > 0 {
			d.timer.Reset(stall)
			if d.skip > 0 {
				d.skip -= int64(n)
				continue
			}
			d.read += int64(n)
			d.broken = 0
			return n, nil
		}
		if err == nil || err == io.EOF && d.skip == 0 {
			return n, err
		}
		d.disconnect()
		d.broken++
		if d.broken >= attempts || d.ctx.Err() != nil {
			return 0, d.r.explain(d.ctx, err, d.r.image.String()+" (blob "+d.digest+")")
		}
	}
}

func (d *download) Close() error {
	if d.body != nil {
		d.disconnect()
	}
	return nil
}
