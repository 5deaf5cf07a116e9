package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// profileSeconds is how long a profile is taken.
const profileSeconds = 10

// profile runs the subject of a case once more, and writes what the gateway's CPU time and memory are spent on meanwhile.
func (b *bench) profile(ctx context.Context, g *gateway, r *result) error {
	load := r.arms[r.subject()].load
	if err := load.prepare(ctx, profileSeconds*time.Second); err != nil {
		return err
	}
	var profiles errgroup.Group
	for kind, name := range map[string]string{"profile": "cpu", "allocs": "allocs"} {
		profiles.Go(func() error {
			return g.writeProfile(ctx, kind, filepath.Join(b.profiles, fileName(r.name)+"."+name+".pprof"))
		})
	}
	run, err := load.start(ctx)
	if err == nil {
		_, err = sendFor(ctx, profileSeconds*time.Second, run)
	}
	return errors.Join(err, profiles.Wait())
}

// fileName is a case's name as a file's.
func fileName(name string) string {
	return strings.Trim(regexp.MustCompile(`[^0-9A-Za-z]+`).ReplaceAllString(name, "-"), "-")
}

// writeProfile asks Caddy's admin interface.
func (g *gateway) writeProfile(ctx context.Context, kind, path string) error {
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", g.path("admin"))
	}}}
	defer client.CloseIdleConnections()
	const short = 1 // so that it ends with the load
	address := fmt.Sprintf("http://127.0.0.1/debug/pprof/%s?seconds=%d", kind, profileSeconds-short)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("taking a profile: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("taking a profile: Caddy answers %s", res.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, res.Body); err != nil {
		return err
	}
	return f.Close()
}
