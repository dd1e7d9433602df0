package cloudinit

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/textproto"
	"strings"
)

// CloudConfigs are the cloud-configs in user-data, in its order: user-data
// itself, or parts of a MIME message; packed by gzip or in base64 (cloud-init's
// reference, "User-data formats"). What is no cloud-config is left out: scripts
// and includes are cloud-init's own affair.
func CloudConfigs(data []byte) ([][]byte, error) { return unwrap(data, 0) }

const deepest = 4 // wrappings in each other

func unwrap(data []byte, depth int) ([][]byte, error) {
	if depth > deepest {
		return nil, fmt.Errorf("reading user-data: wrapped more than %d times", deepest)
	}
	switch start := bytes.TrimLeft(data, " \t\r\n"); {
	case len(start) == 0:
		return nil, nil
	case bytes.HasPrefix(data, []byte{0x1f, 0x8b}):
		r, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, errors.New("reading user-data: broken gzip")
		}
		plain, err := io.ReadAll(io.LimitReader(r, MaxInput+1))
		if err != nil {
			return nil, errors.New("reading user-data: broken gzip")
		}
		if len(plain) > MaxInput {
			return nil, fmt.Errorf("reading user-data: unpacked it is larger than %d bytes", MaxInput)
		}
		return unwrap(plain, depth+1)
	case bytes.HasPrefix(start, []byte("#cloud-config\n")), bytes.HasPrefix(start, []byte("#cloud-config\r")), bytes.HasPrefix(start, []byte("#cloud-config ")):
		return [][]byte{start}, nil
	case bytes.HasPrefix(start, []byte("#")):
		return nil, nil
	case bytes.Contains(bytes.ToLower(data[:min(len(data), 4096)]), []byte("mime-version:")):
		return message(start, depth)
	}
	// Some platforms hand base64 on as they got it.
	text := strings.Join(strings.Fields(string(data)), "")
	if plain, err := base64.StdEncoding.DecodeString(text); err == nil && len(plain) > 0 {
		return unwrap(plain, depth+1)
	}
	return nil, nil
}

// message takes a MIME message apart.
func message(data []byte, depth int) ([][]byte, error) {
	r := bufio.NewReader(bytes.NewReader(data))
	header, err := textproto.NewReader(r).ReadMIMEHeader()
	if err != nil {
		return nil, errors.New("reading user-data: a MIME message with broken headers")
	}
	kind, parameters, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		return nil, errors.New("reading user-data: a MIME message without a type")
	}
	if !strings.HasPrefix(kind, "multipart/") {
		body, err := io.ReadAll(r)
		if err != nil {
			return nil, errors.New("reading user-data: a MIME message that ends too early")
		}
		return part(kind, header, body, depth)
	}
	var out [][]byte
	parts := multipart.NewReader(r, parameters["boundary"])
	for {
		p, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, errors.New("reading user-data: a MIME message that ends too early")
		}
		body, err := io.ReadAll(p)
		if err != nil {
			return nil, errors.New("reading user-data: a MIME message that ends too early")
		}
		kind, _, _ := mime.ParseMediaType(p.Header.Get("Content-Type"))
		more, err := part(kind, p.Header, body, depth)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
}

// part is one part of a message. Its type counts, and its beginning where that
// says nothing.
func part(kind string, header textproto.MIMEHeader, body []byte, depth int) ([][]byte, error) {
	if strings.EqualFold(strings.TrimSpace(header.Get("Content-Transfer-Encoding")), "base64") {
		plain, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(body)), ""))
		if err != nil {
			return nil, errors.New("reading user-data: a part that is no base64, though it says so")
		}
		body = plain
	}
	if kind == "text/cloud-config" && !bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		return [][]byte{body}, nil
	}
	return unwrap(body, depth+1)
}
