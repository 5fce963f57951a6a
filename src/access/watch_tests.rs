use super::*;
use crate::access::{AccessReader, load};
use crate::config::{Access as AccessConfig, AccessEntries};
use crate::hands::Hands;
use std::fs;
use std::path::PathBuf;

struct Bench {
    deny: PathBuf,
    exempt: PathBuf,
    access: Access,
    watch: Watch,
    reader: AccessReader,
    /// How many prefixes the driver was told of, each time.
    driver: Vec<usize>,
}

impl Bench {
    fn new(name: &str) -> Self {
        let path = |kind: &str| {
            std::env::temp_dir().join(format!("maser-access-{name}-{kind}-{}", std::process::id()))
        };
        let (deny, exempt) = (path("deny"), path("exempt"));
        fs::write(&deny, "10.0.0.0/8\n").unwrap();
        fs::write(&exempt, "10.1.0.0/16\n").unwrap();
        let entries = |file: &PathBuf| AccessEntries { prefixes: Vec::new(), file: Some(file.clone()) };
        let config =
            AccessConfig { deny: entries(&deny), exempt: entries(&exempt), ..AccessConfig::default() };
        let (access, watch) = load(&config, &Hands::own()).unwrap();
        let reader = access.reader();
        Self { deny, exempt, access, watch, reader, driver: Vec::new() }
    }

    fn look(&mut self) {
        let driver = &mut self.driver;
        self.watch.look(&mut |prefixes| driver.push(prefixes.len()));
        self.reader.refresh();
    }

    /// Puts a file in the place of the denied ones, as package managers do, and has it looked at until it rests.
    fn put(&mut self, text: &str) -> Option<String> {
        let new = self.deny.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &self.deny).unwrap();
        self.look();
        self.look();
        self.problem()
    }

    fn problem(&self) -> Option<String> {
        self.access.status().files[0].problem.clone()
    }

    fn standing(&self, client: &str) -> Standing {
        self.reader.standing(client.parse().unwrap())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _removed = (fs::remove_file(&self.deny), fs::remove_file(&self.exempt));
    }
}

#[test]
fn a_file_that_changes_is_taken_once_it_rests() {
    let mut bench = Bench::new("newer");
    bench.look();
    let known = bench.reader.prefixes().len();
    assert_eq!(
        (bench.standing("10.2.0.1"), bench.standing("10.1.0.1")),
        (Standing::Denied, Standing::Exempt)
    );
    assert_eq!(bench.put("11.0.0.0/8\n12.0.0.0/8\n"), None);
    assert_eq!(bench.standing("10.2.0.1"), Standing::Allowed);
    assert_eq!(
        (bench.standing("11.0.0.1"), bench.standing("12.0.0.1")),
        (Standing::Denied, Standing::Denied)
    );
    assert_eq!(bench.standing("10.1.0.1"), Standing::Exempt, "of the other file");
    // Written over in place, a part at a time: nothing of it counts before it rests.
    for text in ["13.0.0.0/8\n", "13.0.0.0/8\n14.0", "13.0.0.0/8\n14.0.0.0/8\n"] {
        fs::write(&bench.deny, text).unwrap();
        bench.look();
        assert_eq!((bench.standing("13.0.0.1"), bench.problem()), (Standing::Allowed, None));
    }
    bench.look();
    assert_eq!(
        (bench.standing("13.0.0.1"), bench.standing("14.0.0.1")),
        (Standing::Denied, Standing::Denied)
    );
    bench.look();
    assert_eq!(bench.driver, [known + 1, known + 1], "each once");
    let status = bench.access.status();
    assert_eq!((status.files[0].prefixes, status.files[1].prefixes, status.prefixes), (2, 1, known + 1));
}

#[test]
fn what_is_wrong_changes_nothing_and_is_told() {
    let mut bench = Bench::new("broken");
    let path = bench.deny.display().to_string();
    let told = bench.put("11.0.0.0/8\n  12.0.0.0/33\nx\n").unwrap();
    let expected = ":2:3: \"12.0.0.0/33\": the length must be a number of bits from 0 to 32; expected a prefix or an address, as \
                    192.0.2.0/24 or 2001:db8::1 (and 1 more)";
    assert_eq!(told, format!("{path}{expected}"));
    fs::remove_file(&bench.deny).unwrap();
    bench.look();
    assert_eq!(bench.problem(), Some(told), "it may be about to come back");
    bench.look();
    assert!(bench.problem().unwrap().starts_with(&format!("{path}: can't be read: No such file")));
    let many: String = (0..=crate::access::PREFIXES_MAX)
        .map(|number| {
            format!("{:x}::\n", 0x2000 + number / 65_536).replace("::", &format!(":{:x}::", number % 65_536))
        })
        .collect();
    let told = bench.put(&many).unwrap();
    assert!(told.contains("prefixes are too many, 262144 is the most"), "{told}");
    assert_eq!(
        (bench.standing("10.2.0.1"), bench.standing("11.0.0.1")),
        (Standing::Denied, Standing::Allowed)
    );
    assert!(bench.driver.is_empty());
    assert_eq!(bench.access.status().files[0].prefixes, 1);
    assert_eq!(bench.put("11.0.0.0/8"), None, "and what is right is taken again");
    assert_eq!(
        (bench.standing("10.2.0.1"), bench.standing("11.0.0.1")),
        (Standing::Allowed, Standing::Denied)
    );
}

#[test]
fn lists_wait_for_a_worker_that_stands_still() {
    let mut bench = Bench::new("still");
    let mut still = bench.access.reader();
    for number in 1..=5 {
        assert_eq!(bench.put(&format!("{number}.0.0.0/8\n")), None);
    }
    assert_eq!((bench.standing("4.0.0.1"), bench.standing("5.0.0.1")), (Standing::Denied, Standing::Allowed));
    still.refresh();
    bench.look();
    assert_eq!((bench.standing("4.0.0.1"), bench.standing("5.0.0.1")), (Standing::Allowed, Standing::Denied));
    assert_eq!(bench.driver.len(), 5);
}

#[test]
fn files_must_be_good_at_the_start() {
    let mut bench = Bench::new("start");
    bench.put("nobody\n");
    let error = load(&bench.watch.config, &Hands::own()).unwrap_err().to_string();
    let path = bench.deny.display();
    assert!(
        error.starts_with(&format!("{path}:1:1: \"nobody\": not an address; expected a prefix")),
        "{error}"
    );
    fs::remove_file(&bench.exempt).unwrap();
    bench.put("");
    let error = load(&bench.watch.config, &Hands::own()).unwrap_err().to_string();
    assert!(error.contains("can't be read") && error.contains("access.exempt_file names it"), "{error}");
}

#[test]
fn without_files_there_is_no_thread() {
    let (access, watch) = load(&AccessConfig::default(), &Hands::own()).unwrap();
    assert!(watch.start(|_| {}, &Arc::default()).unwrap().is_none());
    assert!(access.status().files.is_empty());
}

#[test]
fn the_thread_sees_a_change_and_ends_when_it_is_told() {
    let mut bench = Bench::new("thread");
    let (access, watch) = load(&bench.watch.config, &Hands::own()).unwrap();
    let (stop, (told, heard)) = (Arc::<AtomicBool>::default(), std::sync::mpsc::channel());
    let changed = move |prefixes: &[(Prefix, Standing)]| told.send(prefixes.to_vec()).unwrap();
    let (_, thread) = watch.start(changed, &stop).unwrap().unwrap();
    fs::write(&bench.deny, "11.0.0.0/8\n").unwrap();
    let prefixes = heard.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(prefixes.contains(&("11.0.0.0/8".parse().unwrap(), Standing::Denied)), "{prefixes:?}");
    bench.reader = access.reader();
    assert_eq!(bench.standing("11.0.0.1"), Standing::Denied);
    stop.store(true, Ordering::Relaxed);
    thread.join().unwrap();
}
