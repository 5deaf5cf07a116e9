// Package wechattest is WeChat in a box: [Server] plays open.weixin.qq.com
// and api.weixin.qq.com, [Browser] plays the browser inside WeChat. Both are
// as strict and as odd as the platform, so that what works against them has
// a chance there.
//
// Server is an http.Handler, on one host or on two. Its [Knobs] say who holds
// the phone, what that person answers, and what goes wrong. Its call log
// shows everything, secrets too: this is a tool for tests and demos.
//
// Files: server.go dispatches and keeps the log, knobs.go has the knobs,
// fault.go makes answers go wrong, authorize.go and link.go are the authorize
// page, face.go and face.html what a person sees of it, api.go the sns/*
// calls, people.go who there is, store.go what was issued; browser.go,
// navigate.go, double.go, jar.go, site.go and page.go are the browser.
//
// Left out on purpose: 10004, 10006, 10015, 10016 and 10039 have no cause
// here, but can be asked for as a [Fault] of the authorize path; qrconnect.
package wechattest
