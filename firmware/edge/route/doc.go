// Package route is the route language of IoT Edge: which messages go where.
//
//	[SELECT *] FROM <source> [WHERE <condition>] INTO <endpoint>
//
// A route is parsed and checked once ([Parse]) and then asked about every
// message ([Route.Matches]). Conditions evaluate as Edge Hub evaluates them:
// three-valued logic, no conversion between types, type errors reported when
// the route is parsed and not when a message comes by. A mistake is reported
// as [*Error] with line, column and what was expected.
//
// The package knows nothing of modules, queues or the network; the router in
// package edge asks it and moves the messages. Start with [Route].
//
// # Where names end
//
// The names of application properties may contain nearly every printable
// character, operators among them: my-prop, a+b and 50% are names. Operators
// that are spelled with such characters (+ - * %) therefore need a space
// before them when they follow a name. As conveniences over Edge Hub, which
// would read a name there too, "||" and "!=" always end a name, a quote always
// starts a text, digits with operators between them (1+2) are arithmetic, and
// after a complete operand an operator needs no spaces: as_number(a)*2.
//
// # Values in the body
//
// $body.path[0].field looks into a JSON body. A body that is not an object, not
// declared as JSON in UTF-8, UTF-16 or UTF-32, or malformed is undefined. A
// path that leads nowhere is null, as in Edge Hub; objects, arrays, and texts
// that Edge Hub's JSON library takes for a date are undefined. Where Edge Hub
// has outright defects around body values (is_null that is true for every value,
// an order between values of different types, AND that accepts a body value on
// its left side only), this package does what the language says instead.
package route
