//! Generates people from a seed: as many as a load needs, all different and all fictional.

use hookline_sandbox::SampleFacts;
use rand::distr::Alphanumeric;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// All valid area codes. N11 codes are services, and the middle digit is never 9.
const AREAS: [u32; 712] = areas();

const fn areas() -> [u32; 712] {
    let mut areas = [0; 712];
    let (mut area, mut count) = (200, 0);
    while area <= 999 {
        if area / 10 % 10 != 9 && area % 100 != 11 {
            areas[count] = area;
            count += 1;
        }
        area += 1;
    }
    areas
}

pub struct People {
    rng: StdRng,
    number: u32,
}

impl People {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let number = rng.random_range(0..71_200);
        Self { rng, number }
    }

    /// Returns a new person with a phone and a contact of their own.
    pub fn next(&mut self, account: &str) -> SampleFacts {
        self.number = (self.number + 1) % 71_200;
        let area = AREAS[(self.number / 100) as usize];
        SampleFacts {
            // Numbers of the form +1 NXX 555 01XX are reserved for fiction.
            phone: format!("+1{area}55501{:02}", self.number % 100),
            contact_name: format!("Fictional {}", self.slug()),
            contact_id: self.slug(),
            conversation_id: self.slug(),
            ..SampleFacts::random(account)
        }
    }

    /// Draws a number below `end`.
    pub fn draw(&mut self, end: usize) -> usize {
        self.rng.random_range(0..end)
    }

    fn slug(&mut self) -> String {
        (0..12).map(|_| char::from(self.rng.sample(Alphanumeric))).collect()
    }
}
