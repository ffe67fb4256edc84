//! temporary
pub struct Template(String);
impl Template {
    pub fn compile(_: &str, text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.split("{{ ").skip(1).filter_map(|rest| rest.split_once(" }}").map(|(n, _)| n))
    }
    pub fn render(&self, value: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
        let mut out = self.0.clone();
        for name in self.variables() {
            out = out.replace(&format!("{{{{ {name} }}}}"), &value(name).unwrap_or_default());
        }
        Ok(out)
    }
}
