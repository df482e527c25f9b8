package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kgo"
)

// tlsDirectory is the environment variable with a directory that has ca.crt, tls.crt and tls.key
// for brokers with TLS; without it, brokers are spoken to in plaintext.
const tlsDirectory = "KLAMM_E2E_TLS"

func newClient(options ...kgo.Opt) (*kgo.Client, error) {
	if directory := os.Getenv(tlsDirectory); directory != "" {
		config, err := tlsConfig(directory)
		if err != nil {
			return nil, err
		}
		options = append(options, kgo.DialTLSConfig(config))
	}
	return kgo.NewClient(options...)
}

func tlsConfig(directory string) (*tls.Config, error) {
	in := func(name string) string { return filepath.Join(directory, name) }
	authorities, err := os.ReadFile(in("ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("no certificates in %s", in("ca.crt"))
	}
	own, err := tls.LoadX509KeyPair(in("tls.crt"), in("tls.key"))
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}}, nil
}
