package certificate

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

const (
	backdate = 48 * time.Hour // a clock that is a day slow or an hour off must still accept it
	lifetime = 60 * day
)

// parsePair reads a chain and a key for a host, and its leaf.
func parsePair(host string, chain, key []byte) (Pair, *x509.Certificate, error) {
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return Pair{}, nil, err
	}
	leaf := pair.Leaf
	if err := leaf.VerifyHostname(host); err != nil {
		return Pair{}, nil, err
	}
	return Pair{
		Usable:    true,
		Serial:    serial(leaf),
		NotBefore: leaf.NotBefore,
		NotAfter:  leaf.NotAfter,
		Signed:    !bytes.Equal(leaf.RawIssuer, leaf.RawSubject),
		Only:      len(leaf.DNSNames) == 1,
		print:     fingerprint(leaf),
		Digest:    fmt.Sprintf("%x", sha256.Sum256(slices.Concat(chain, []byte{0}, key))),
	}, leaf, nil
}

func fingerprint(c *x509.Certificate) string { return fmt.Sprintf("%x", sha256.Sum256(c.Raw)) }

func serial(c *x509.Certificate) string { return c.SerialNumber.Text(16) }

// newKey makes a P-256 key. It never serves two certificates.
func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseKey(data []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no PEM block")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("a %T is not the kind of key we make", key)
	}
	return ec, nil
}

// SelfSigned makes a certificate for the time until an authority has signed
// one: chain and key as PEM.
func SelfSigned(names []string, now time.Time) (chain, key []byte, err error) {
	private, key, err := newKey()
	if err != nil {
		return nil, nil, fmt.Errorf("making a self-signed certificate: %w", err)
	}
	number, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, fmt.Errorf("making a self-signed certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: number,
		// No common name: it may hold 64 bytes, a domain more.
		Subject:               pkix.Name{Organization: []string{"Prose Pod, not yet certified"}},
		NotBefore:             now.Add(-backdate).UTC(),
		NotAfter:              now.Add(lifetime - backdate).UTC(),
		DNSNames:              names,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, fmt.Errorf("making a self-signed certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key, nil
}
