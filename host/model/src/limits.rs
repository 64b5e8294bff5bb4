//! Every limit in one place, each with its reason. Knows no other module.

use std::time::Duration;

/// Longest value in the text of a difference, in characters: a log line stays readable when a whole list differs.
pub const DIFFERENCE_CHARS_MAX: usize = 160;
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

// ---- What a plugin's bytes may be: compiling is not bounded by fuel, so its input is.

/// Most bytes of a component: ten times what the larger guests in Rust take, and a fraction of a second to compile.
pub const PLUGIN_BYTES_MAX: usize = 8 * MIB;
/// Most bytes of a component once compressed: what the API server takes as a ConfigMap.
pub const PLUGIN_PACKED_BYTES_MAX: usize = MIB;
/// Most functions of a component: a guest in Rust has some hundreds, one that carries an interpreter some thousands.
pub const PLUGIN_FUNCTIONS_MAX: usize = 20_000;
/// Most bytes of one function: the compiler's work can grow faster than the function.
pub const PLUGIN_FUNCTION_BYTES_MAX: usize = 256 * KIB;
/// Most core modules within a component: one, and the small ones that adapters add.
pub const PLUGIN_MODULES_MAX: usize = 8;
/// Most components within a component: one for each interface that it exports, and some of those that it was composed of.
pub const PLUGIN_COMPONENTS_MAX: usize = 32;
/// Deepest nesting of components: one within another for each time that it was composed.
pub const PLUGIN_COMPONENT_DEPTH_MAX: usize = 4;
/// Most instances that come of one instantiation: the modules and the components of the outermost one, once each, and some. Without
/// it each level may double their number.
pub const PLUGIN_INSTANCES_MAX: usize = 128;
/// Most locals of one function: what is not optimised has some hundreds. A few bytes declare any number of them, and the compiler
/// looks at each in each block.
pub const PLUGIN_FUNCTION_LOCALS_MAX: usize = 4096;
/// Most locals of all functions: 25 for each of them.
pub const PLUGIN_LOCALS_MAX: usize = 500_000;
/// Most blocks within each other in one function: a `match` has one for each of its arms. The compiler's work grows with the square.
pub const PLUGIN_FUNCTION_NESTING_MAX: usize = 2048;
/// Most blocks within each other, added up over all functions: ten for each of them.
pub const PLUGIN_NESTING_MAX: usize = 200_000;
/// Most targets of `br_table`: each is an edge that the compiler follows, and takes a byte.
pub const PLUGIN_BRANCH_TARGETS_MAX: usize = 200_000;
/// Most segments of data and elements: a guest in Rust has three.
pub const PLUGIN_SEGMENTS_MAX: usize = 4096;
/// Most types, with those declared within others: a guest in Rust has about a hundred.
pub const PLUGIN_TYPES_MAX: usize = 10_000;
/// Most imports and exports within it, aliases, globals, lifted and lowered functions: a guest in Rust has about a hundred.
pub const PLUGIN_ITEMS_MAX: usize = 20_000;

/// What a process that tries to load bytes that are new may take.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// Address space, in bytes.
    pub memory_bytes: u64,
    /// Processor time, in seconds.
    pub cpu_secs: u64,
    /// Time in all.
    pub time: Duration,
    /// Processes at a time, for all plugins.
    pub at_once: usize,
}

/// The first trial: more than twice what the plugins here take (0.9 s; 50 MiB, and 192 MiB of address space for a call), and so little
/// that no plugin waits long for others.
pub const TRIAL_FIRST: Trial =
    Trial { memory_bytes: 448 * MIB as u64, cpu_secs: 2, time: Duration::from_secs(60), at_once: 2 };
/// The second, for what the first is too small: a component of the largest size takes two thirds of this memory and a quarter of this time,
/// and a pod may be given a fifth of a processor. Together with the first they take less than the memory of a pod.
pub const TRIAL_LAST: Trial =
    Trial { memory_bytes: 768 * MIB as u64, cpu_secs: 60, time: Duration::from_secs(300), at_once: 1 };

// ---- What one call of a plugin may use.

/// Most calls at a time, and slots in the pool of instances: more than the cores of a controller's pod; further calls wait.
pub const CALLS_MAX: usize = 8;
/// Most memory of one call: a plan of 1024 clusters of nine members takes about half of it.
pub const CALL_MEMORY_BYTES_MAX: usize = 128 * MIB;
/// Memory that stays mapped in a free slot, so that the next call meets no page fault: the heap of a common guest.
pub const CALL_MEMORY_KEPT_BYTES: usize = 2 * MIB;
/// Most elements of a guest's tables: one for each function that is called by pointer.
pub const CALL_TABLE_ELEMENTS_MAX: usize = 20_000;
/// Most bytes of a guest's native stack.
pub const CALL_STACK_BYTES_MAX: usize = 512 * KIB;
/// Most bytes of a guest's panic message, as many as the SDK keeps: it stands in a condition's message.
pub const PANIC_MESSAGE_BYTES_MAX: usize = KIB;
/// Revisions of a plugin that are remembered after they served: a database whose newest plan is held goes on with the one that planned
/// what runs. Each is its compiled code, a megabyte or two.
pub const REVISIONS_REMEMBERED: usize = 3;
/// Revisions that a StoragePlugin lists: as many as are kept without being used, and more that databases run.
pub const REVISIONS_LISTED_MAX: usize = 16;
/// Fuel of `describe`: ten times what a guest with a long schema uses. Loading is not to be slowed by one plugin.
pub const DESCRIBE_FUEL: u64 = 50_000_000;
/// Fuel to check a class's spec: a user waits for the answer.
pub const VALIDATE_FUEL: u64 = 50_000_000;
/// Fuel of every plan: a hundred times what a plan of 15 manifests uses; an endless loop ends within 15 ms.
pub const PLAN_FUEL: u64 = 200_000_000;
/// Fuel that each partition adds: ten times what a cluster of its own uses.
pub const PLAN_FUEL_PER_PARTITION: u64 = 5_000_000;
/// Fuel that each observed object adds: a plan may look at every one of them.
pub const PLAN_FUEL_PER_OBSERVED: u64 = 500_000;

// ---- What a plugin's descriptor may hold.

/// Most characters of a plugin's name: `atomix-plugin-<name>` stays a DNS label.
pub const PLUGIN_NAME_CHARS_MAX: usize = 40;
/// Most characters of a plugin's version: the value of a label.
pub const PLUGIN_VERSION_CHARS_MAX: usize = 63;
/// Most class kinds of a plugin; each is a definition in the cluster.
pub const CLASS_KINDS_MAX: usize = 16;
/// Most kinds that a plugin emits and watches together; each is a watch.
pub const OBJECT_KINDS_MAX: usize = 32;
/// Most versions, short names or columns of one class kind.
pub const CLASS_KIND_LIST_MAX: usize = 16;
/// Most pointers that are read of one kind.
pub const POINTERS_MAX: usize = 64;
/// Most characters of a pointer, a JSON path or another short text of a descriptor.
pub const DESCRIPTOR_TEXT_CHARS_MAX: usize = 253;
/// Most bytes of a class's schema: definitions must stay far under the API server's request limit.
pub const SCHEMA_BYTES_MAX: usize = 256 * KIB;

// ---- What a plugin may return for groups of the old gRPC API.

/// Most protocols of a plugin: one for each of its class kinds.
pub const PROTOCOLS_MAX: usize = CLASS_KINDS_MAX;
/// Most members of each partition of a group: far more than agree with each other in any storage.
pub const PARTITION_SIZE_MAX: u32 = 1024;
/// Most bytes of a group's message: it stands in the status of each database, and a configuration has some dozens.
pub const GROUP_BYTES_MAX: usize = 4 * KIB;

// ---- What a plan may hold.

/// Most objects of a plan: eight for each of 1024 clusters.
pub const PLAN_OBJECTS_MAX: usize = 8192;
/// Most bytes of one manifest: under the API server's limit of a request, with room for what is stamped on.
pub const PLAN_OBJECT_BYTES_MAX: usize = 512 * KIB;
/// Most bytes of a whole plan, and of whatever else a call returns: twice what the largest database needs.
pub const PLAN_BYTES_MAX: usize = 16 * MIB;
/// Most memory, in bytes, that the manifests of a plan may take once they are read: those of the largest database take three quarters. A
/// plan of objects that hold next to nothing would take ninety times its text, and the controller's pod with it.
pub const PLAN_HEAP_BYTES_MAX: usize = 192 * MIB;
/// Most memory that one JSON text of a plugin may take once it is read, as a multiple of the most bytes that it may have: manifests and
/// schemas take up to twenty times their text, and none has the most.
pub const JSON_HEAP_PER_BYTE_MAX: usize = 32;
/// Deepest nesting of a manifest: a pod template is about 12 deep.
pub const JSON_DEPTH_MAX: usize = 32;
/// Most characters of a logical id, a reason's code, or a field's path.
pub const WORD_CHARS_MAX: usize = 253;
/// Most characters of a message: what a condition's message may hold, with room for what is put around it.
pub const MESSAGE_CHARS_MAX: usize = 4096;
/// Most endpoints of one partition: the members of its cluster, and some.
pub const ENDPOINTS_MAX: usize = 32;
/// Most changes not taken, notes, or field errors in one answer: more would not be read.
pub const REMARKS_MAX: usize = 64;

// ---- How often things are tried and written, and how much waits.

/// Longest pause between two tries of something that may recover by itself (a right that is not there yet, a name that is
/// taken): no event reports that these changed, and one request a minute costs the API next to nothing.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// First pause before what the API server did not take is sent again: no event reports that it would be accepted now.
pub const REFUSED_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How often in a row the same may be written again although nothing was edited. A plan that goes by steps takes some, and a
/// person who tries what happens some more.
pub const REPEATS_WITHOUT_DELAY: u32 = 8;
/// Longest pause between two writes of such a row: what another client writes in between stands for at most this long.
pub const REPEAT_DELAY_MAX: Duration = Duration::from_secs(300);
/// How much longer than expected nothing is written again until such a row is no longer reported.
pub const REPEAT_OVER_AFTER: Duration = Duration::from_secs(60);
/// How long nothing may be written again for such a row to end: twice the longest pause.
pub const REPEAT_RESET_AFTER: Duration = Duration::from_secs(600);
/// Pause of a database after a pass that wrote something, before the next one, which observes the writes: most often an
/// event comes sooner.
pub const PASS_AFTER_WRITES: Duration = Duration::from_secs(1);
/// First pause before something is tried again.
pub const RETRY_AFTER_MIN: Duration = Duration::from_millis(500);
/// A Database's status is written no more often than this: pods become ready in bursts, and a person cannot read faster.
pub const STATUS_PAUSE: Duration = Duration::from_millis(250);
/// A status in which only counts or wording differ waits this long for a better one.
pub const STATUS_WORDING_PAUSE: Duration = Duration::from_millis(1000);
/// A partition's status in which only wording differs waits this long, and so does the first status of one that just starts.
pub const PARTITION_WORDING_PAUSE: Duration = Duration::from_secs(5);
/// Databases worked on at a time. Planning takes under a millisecond of processor; the rest is waiting for the API server.
pub const RECONCILES_AT_ONCE: u16 = 16;
/// Objects of each kind that are held parsed besides, which takes ten times their bytes: what the passes that run at a time look at, of
/// databases of some partitions.
pub const PARSED_KEPT_MAX: usize = 64;
/// Objects in a page of a list: a page is text of a megabyte at most, as a rule, and each kind may have one at a time.
pub const LIST_PAGE: u32 = 250;
/// Changes that wait between the watches and the controller; when it is full the watches read no further.
pub const CHANGES_WAITING: usize = 4096;
/// Most refused plugins that a message names: it is read in a terminal.
pub const PLUGINS_NAMED_MAX: usize = 3;
/// Longest spec of a class that a Database's status records. Specs have a few hundred bytes; a status is written and watched as a whole,
/// and with a few of such length it stays far below the 1.5 MiB that a cluster's store takes.
pub const CLASS_SPEC_RECORDED_BYTES_MAX: usize = 16 * KIB;
/// Longest message in a condition: the API's own limit for `metav1.Condition`.
pub const CONDITION_MESSAGE_MAX: usize = 32_768;
/// Longest note of an Event: the API's own limit.
pub const EVENT_NOTE_MAX: usize = 1024;
/// What has been ready for less than this still starts: a member that is not ready yet is no loss.
pub const START_GRACE: Duration = Duration::from_secs(5);
/// A cause has to stand this long to count on something that starts or rolls out: Kubernetes gets over some within moments, such as
/// a pod that is looked at before its claim.
pub const CAUSE_AFTER: Duration = Duration::from_secs(3);
/// How long the last cause is shown when it is not seen any more and all is not well yet: between two exits of a container
/// there is a moment without one.
pub const CAUSE_KEPT: Duration = Duration::from_secs(60);
/// What was degraded has recovered when nothing has been missing for this long.
pub const STEADY_AFTER: Duration = Duration::from_secs(5);
/// Longest run of a container that kept exiting which a next one must outlast to count as recovered; also the kubelet's longest pause
/// between two runs. A container that exits less often than that runs, with exits.
pub const STEADY_AFTER_MAX: Duration = Duration::from_secs(300);
/// How long a start or a rollout may go on without any progress before it counts as failed: as long as a Deployment's.
pub const PROGRESS_DEADLINE: Duration = Duration::from_secs(600);
/// How long a rollout may stand still before its status names what holds it up: a member that restarts is back within it.
pub const PROGRESS_REPORTED_AFTER: Duration = Duration::from_secs(30);
/// How long a claim may be pending before that is a cause: volumes of most clouds are there within it.
pub const CLAIM_PENDING_AFTER: Duration = Duration::from_secs(20);
/// How long a member of an earlier revision may take to start before it is made again of the new one: a few rounds of its startup
/// probe. One that reads a large log is made again too: it would restart for the edit anyway.
pub const MEMBER_START: Duration = Duration::from_secs(30);
/// How long the rollout of an edit waits for a member that is away: one that restarts, or whose node does, is back within it. One that
/// is not may need the edit.
pub const ROLLOUT_WAITS: Duration = Duration::from_secs(120);

// ---- Events of Kubernetes, which are watched only while something is missing and nothing else shows why.

/// How long the cause of something missing may be unknown before Events are watched: most starts are over or explained by then.
pub const EVENTS_AFTER: Duration = Duration::from_secs(3);
/// Most namespaces whose Events are watched at a time, each by two watches: a cluster where more are broken at once is broken itself.
pub const EVENT_NAMESPACES_MAX: usize = 32;
/// How long a namespace keeps its place when others wait for one: long enough for whatever is broken to be tried again and
/// reported.
pub const EVENT_NAMESPACE_KEPT: Duration = Duration::from_secs(60);
/// When databases whose namespace got no place try again.
pub const EVENT_NAMESPACE_RETRY: Duration = Duration::from_secs(30);
/// Most Events remembered of one namespace; the oldest go. Repeated ones are one, so that this is many objects with several each.
pub const EVENTS_KEPT_MAX: usize = 1024;
/// Most characters of an Event's message that are kept: the API's own limit, as clients keep it.
pub const EVENT_MESSAGE_CHARS_MAX: usize = 1024;
/// How long an Event of a set that lacks pods counts as current: its controller tries again at least every 1000 s.
pub const EVENT_OF_SET_LASTS: Duration = Duration::from_secs(1200);
/// Two Events of one object that are no further apart have one cause, reported in two ways: a kubelet tries again within it.
pub const EVENTS_TOGETHER: Duration = Duration::from_secs(150);

// ---- Watches.

/// First pause before a watch or a listing that failed is tried again: what a new plugin's role grants comes that late.
pub const WATCH_RETRY_AFTER_MIN: Duration = Duration::from_millis(200);
/// Longest pause before a watch or a listing that failed is tried again: soon after an API server is back, everything is seen again, and a
/// right that is missing costs next to nothing.
pub const WATCH_RETRY_AFTER_MAX: Duration = Duration::from_secs(10);
/// How long a watch that is refused counts as one that starts: the rights of a new plugin reach us a moment after its role.
pub const RIGHTS_GRACE: Duration = Duration::from_secs(5);
/// Changes of ConfigMaps that bring plugins, waiting to be loaded; each holds all of them, so one is enough.
pub const SOURCES_WAITING: usize = 1;
/// StoragePlugins are written no more often than this: their counts change with every database.
pub const REPORT_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause before a plugin that fails for a database is called again for the same request.
pub const PLUGIN_RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

// ---- Connections to each of the servers. When there are too many, those end that have been silent for longest, of the peer with the
// most: see `connections`.

/// Longest until a connection is open, with TLS and without: a client that sends nothing must not hold a place. Several
/// round trips around the world.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Longest from the first byte of a request of HTTP/1 to the end of its headers: they fit into a packet or two.
pub const HTTP_HEAD_MAX: Duration = Duration::from_secs(5);
/// Longest that a connection of HTTP/1 may be without a request: longer than Go's clients keep one (90 s), so that the
/// client closes it and none is closed while a request is on its way.
pub const HTTP_IDLE_MAX: Duration = Duration::from_secs(120);
/// How often it is looked whether a connection that answers has become silent: a quarter of the shortest time that it may be.
pub const CONNECTION_LOOK: Duration = Duration::from_secs(30);
/// Pause after a connection could not be accepted: file descriptors have run out, as a rule, and trying at once would only spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Most connections to the server of metrics and health: kubelets, and some scrapers.
pub const METRICS_CONNECTIONS_MAX: usize = 64;
/// Most connections to it of one address: two probes and a scraper that opens a new one each time.
pub const METRICS_CONNECTIONS_PER_PEER_MAX: usize = 16;
/// Longest that an answer of it may take to be made.
pub const METRICS_TIME_MAX: Duration = Duration::from_secs(10);
/// Most kinds of objects whose writes are counted each: those of some dozens of plugins. Further ones are counted together.
pub const KINDS_COUNTED_MAX: usize = 256;

// ---- The conversion webhook.

/// Most bytes of one review: five objects as large as an API server takes (3 MiB), and it sends one at a time, or small ones.
pub const REVIEW_BYTES_MAX: usize = 16 * MIB;
/// Most memory, in bytes, that a review may take once it is read: twenty times the text of two objects as large as an API server takes.
/// One of objects that hold nothing would take ninety times its text.
pub const REVIEW_HEAP_BYTES_MAX: usize = 128 * MIB;
/// Reviews that take more than this once they are read wait for a permit: one database takes a fifth of it.
pub const REVIEW_HEAP_BYTES_SMALL: usize = MIB;
/// Most reviews at a time that take more than that, whoever sends them: with a copy of each, a quarter of the memory that a pod may use.
pub const REVIEWS_READ_MAX: usize = 2;
/// Longest that the checks of a review may take: the API server waits 3 seconds, and then admits the object.
pub const REVIEW_WAIT: Duration = Duration::from_secs(2);
/// How long the review of a Database waits for its class: of one file, the class comes just before, and is not seen yet.
pub const REVIEW_CLASS_WAIT: Duration = Duration::from_millis(500);
/// Most reviews at a time; others are admitted at once, without warnings. Each may compute a plan, on a machine of two
/// cores.
pub const REVIEWS_MAX: usize = 4;
/// Most databases that are planned for when their class is edited: a plan takes milliseconds.
pub const REVIEW_DATABASES_MAX: usize = 32;
/// Most warnings of one review, and most characters of each: the API server drops what is over 4,096 bytes together.
pub const REVIEW_WARNINGS_MAX: usize = 8;
/// See [`REVIEW_WARNINGS_MAX`].
pub const WARNING_CHARS_MAX: usize = 400;
/// Reviews above this size are large: a list of databases, which is converted in one.
pub const REVIEW_BYTES_SMALL: usize = MIB;
/// Most large reviews that are read at a time; more wait. Together with small ones on all connections they take a fifth of the memory
/// that a pod may use, whoever sends them.
pub const REVIEWS_LARGE_MAX: usize = 16;
/// Longest that one review may take, from its headers to the answer: a conversion takes milliseconds, and what is longer is
/// a body that does not come. Under the API server's own time-out (30 s), so that this server gives the reason.
pub const REVIEW_TIME_MAX: Duration = Duration::from_secs(15);
/// Most connections to the webhook at a time: an API server keeps a handful open, and a large cluster has some API servers.
pub const WEBHOOK_CONNECTIONS_MAX: usize = 128;
/// Most connections to the webhook of one address: what one API server opens in a burst.
pub const WEBHOOK_CONNECTIONS_PER_PEER_MAX: usize = 48;
/// How long the webhook's certificate authority is good for, in days: a change of it tears down all watches of databases.
pub const AUTHORITY_DAYS: i64 = 3650;
/// A certificate authority with less than this left is replaced, in days.
pub const AUTHORITY_DAYS_LEFT_MIN: i64 = 90;
/// How long a certificate under it is good for, in hours: a stolen one is of no use for long.
pub const CERTIFICATE_HOURS: i64 = 48;
/// Age at which a certificate is replaced, in hours: half its life, so that a clock may be a day off.
pub const CERTIFICATE_AGE_HOURS_MAX: i64 = 24;
/// Longest wait between two tries to reach the API server, in seconds: a person who corrects what is wrong should not wait
/// longer.
pub const WEBHOOK_RETRY_SECS_MAX: u64 = 30;

// ---- Who leads, and which replicas there are.

/// How long a Lease lasts that is not renewed: how long no replica reconciles after the leader died. Shorter, and an API
/// server that restarts would cost the leader its place.
pub const LEASE_LASTS: Duration = Duration::from_secs(15);
/// Longest duration in a holder's Lease that is honoured, so that a Lease edited by mistake does not stop all work.
pub const LEASE_LASTS_MAX: Duration = Duration::from_secs(60);
/// How often a Lease is renewed: one renewal may fail, and the next still comes in time.
pub const LEASE_RENEWED_EVERY: Duration = Duration::from_secs(5);
/// How long before others may take the Lease the leader begins no write any more: what it began by then has arrived.
pub const LEASE_MARGIN: Duration = Duration::from_secs(3);
/// Pause before a Lease that could not be written is tried again: several tries fit between a failed renewal and the end.
pub const LEASE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long one request for a Lease may take: a renewal that hangs leaves time for another before the end.
pub const LEASE_REQUEST_WITHIN: Duration = Duration::from_secs(3);
/// How often it is looked whether the machine slept meanwhile: timers stand still while it does, and Leases run out.
pub const CLOCK_LOOK: Duration = Duration::from_secs(1);
/// Longest round of a loop that reports its progress: of those that keep or await a Lease, two requests, and as long as a
/// Lease of the longest kind lasts.
pub const LOOP_ROUND_MAX: Duration = Duration::from_secs(66);
/// How long such a loop may not have gone round until the process counts as stuck: twice as long, and some.
pub const LOOP_STILL_MAX: Duration = Duration::from_secs(150);
/// How long a pass may neither end nor write anything until the process counts as stuck: every request that it makes is given up
/// long before, and so is every call of a plugin.
pub const PASS_STILL_MAX: Duration = Duration::from_secs(600);
/// How long running passes may go on when the leader stops: most take milliseconds, and the next leader waits.
pub const LEADER_LEAVES_WITHIN: Duration = Duration::from_secs(1);
/// Pause of a new leader before its first pass: what the one before wrote last is still on its way to our caches.
pub const TAKE_OVER_PAUSE: Duration = Duration::from_millis(250);
/// How long the Lease of a dead replica is kept, and its end remembered: what it left behind has long been removed by then.
pub const REPLICA_KEPT: Duration = Duration::from_secs(60 * 60);
/// Longest identity of a replica, in characters: with the controller's name before it, it is the name of a Lease.
pub const IDENTITY_CHARS_MAX: usize = 180;

// ---- Requests to the API server.

/// Longest until a connection to it stands, TLS aside: some lost packets, far away.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection may be silent before its other end is probed (TCP keepalive), how often it is probed, and how many
/// answers may be missing: one whose other end is gone is given up within half a minute, watches too.
pub const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
/// See [`TCP_KEEPALIVE`].
pub const TCP_KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// See [`TCP_KEEPALIVE`].
pub const TCP_KEEPALIVE_TRIES: u32 = 3;
/// How long what was sent may not be received by the other end.
pub const TCP_UNANSWERED_MAX: Duration = Duration::from_secs(30);
/// Longest until an answer begins, watches too: an API server gives up most requests itself within a minute, and admission webhooks
/// may take 30 s of it.
pub const ANSWER_BEGINS_WITHIN: Duration = Duration::from_secs(60);
/// Longest until an answer has ended that is no watch: a page of a list has some megabytes.
pub const ANSWER_ENDS_WITHIN: Duration = Duration::from_secs(90);
/// Longest that a watch may last: it asks the API server to end it after 290 s.
pub const WATCH_ENDS_WITHIN: Duration = Duration::from_secs(330);

// ---- The gRPC API.

/// Most bytes of a request: names and a protocol's configuration; the largest sensible one has a few kilobytes.
pub const GRPC_REQUEST_BYTES_MAX: usize = 64 * KIB;
/// Most calls that go on at a time in one replica, streams included, unless a flag says otherwise: a stream costs about 10 kB.
pub const GRPC_CALLS_MAX: usize = 20_000;
/// Most connections of clients at a time: a client has one, and each costs about 20 kB. With fewer file descriptors than twice as
/// many, half of them are the limit, so that the other servers always have some.
pub const GRPC_CONNECTIONS_MAX: usize = 8192;
/// Most connections of one address: programs behind one NAT or proxy share it.
pub const GRPC_CONNECTIONS_PER_PEER_MAX: usize = 1024;
/// Bytes that open a connection of HTTP/2: its preface. From then on pings find out whether the other end is there.
pub const HTTP2_PREFACE_BYTES: usize = 24;
/// File descriptors that this process asks for, if it may have so many: for all connections, with room.
pub const FILES_WANTED: u64 = 32_768;
/// How often the other end of a connection without traffic is pinged, and how long an answer may take: a client that has
/// crashed is noticed within both.
pub const GRPC_KEEPALIVE: Duration = Duration::from_secs(8);
/// See [`GRPC_KEEPALIVE`].
pub const GRPC_KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(7);
/// How long a call waits for the view to be filled after a start, before it is refused, so that the client tries another
/// replica.
pub const GRPC_START_WAIT: Duration = Duration::from_secs(5);
/// How long calls may take to end once the controller was asked to stop.
pub const GRPC_DRAIN: Duration = Duration::from_secs(5);
/// Longest name or scope that a client may give, in bytes: it is a field of an object.
pub const CLIENT_NAME_BYTES_MAX: usize = 1024;
/// Most candidates of one election: they all stand in one object.
pub const CANDIDATES_MAX: usize = 1000;
/// How long members and candidates of a replica that is gone stay: their clients come back through another one within it.
pub const REJOIN_GRACE: Duration = Duration::from_secs(10);
/// How often it is checked whether the grace of a replica that is gone is over; costs no request.
pub const GARBAGE_COLLECTION_PAUSE: Duration = Duration::from_secs(1);
/// How often a write that met another one is tried again before the client gets an error.
pub const CONFLICT_TRIES: usize = 10;
/// Most groups that clients may have in one namespace, unless a flag says otherwise.
pub const GROUPS_MAX: usize = 100;
/// Most primitives that clients may have in one namespace, unless a flag says otherwise: each is a small object.
pub const PRIMITIVES_MAX: usize = 10_000;
/// Most groups of peers that one Pod may be a member of: a program is in one or two, and each is an object.
pub const GROUPS_OF_MEMBER_MAX: usize = 64;
/// Most bytes of a list of databases, groups or primitives: what clients of gRPC accept as a message unless configured
/// otherwise.
pub const LIST_BYTES_MAX: usize = 4 * MIB;
/// Writes that one address may ask for at once: the primitives that a large program creates when it starts.
pub const CLIENT_WRITES_AT_ONCE: u32 = 1000;
/// Writes that one address may ask for in a second, after those: a tenth of what an API server takes from all.
pub const CLIENT_WRITES_PER_SEC: u32 = 100;
/// Most addresses whose writes are counted; the one that wrote longest ago goes. Those that wrote little are forgotten anyway.
pub const CLIENTS_COUNTED_MAX: usize = 4096;
/// The share of all calls (one of so many) that one address leaves to others.
pub const CALLS_LEFT_TO_OTHERS: usize = 4;
/// How often a Pod is looked up for the same client within [`JOIN_REFUSAL_KEPT`] until a refusal is answered without a look:
/// one that waits for its Pod's address tries now and then.
pub const JOIN_LOOKS_MAX: u32 = 5;
/// How long a refusal to join is kept: a Pod that has its address by then is taken.
pub const JOIN_REFUSAL_KEPT: Duration = Duration::from_secs(1);
/// Most such refusals that are kept; when there are more, the oldest go.
pub const JOIN_REFUSALS_MAX: usize = 4096;
/// How long a new group or primitive waits for an older object of its name to go: Kubernetes' garbage collection takes a
/// second or two, and up to a minute for kinds that were installed just before. The client gets an error for what takes
/// longer.
pub const OLDER_GONE_WAIT: Duration = Duration::from_secs(90);
/// Longest pause between two looks for it: each is a request, and there is a client that waits.
pub const OLDER_GONE_LOOK: Duration = Duration::from_millis(500);
/// How long the answer to a new group waits for it to be listed.
pub const GROUP_LISTED_WAIT: Duration = Duration::from_secs(5);
