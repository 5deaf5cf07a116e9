// Package integration tests the running gateway from outside: the Caddy binary over TLS with local
// certificates, real upstreams, a real browser, and the simulator in WeChat's place.
//
// harness_test.go starts and stops gateways, world_test.go describes the sites they serve; the other
// files hold a subject each. What needs a server that is not installed is skipped, and says so; with
// WECHAT_TEST_ALL=1 it fails instead.
package integration
