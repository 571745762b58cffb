//! An XML tree to build and render. Reading is left to `roxmltree`.

use quick_xml::Writer;
use quick_xml::events::BytesText;

/// An element: attributes, and children or text.
#[derive(Clone, Debug)]
pub(super) struct Element {
    name: &'static str,
    attributes: Vec<(&'static str, String)>,
    children: Vec<Element>,
    /// Rendered instead of the children.
    text: Option<String>,
}

/// An empty element called `name`.
pub(super) fn el(name: &'static str) -> Element {
    Element { name, attributes: Vec::new(), children: Vec::new(), text: None }
}

/// An element called `name` that holds `text`.
pub(super) fn text(name: &'static str, text: impl ToString) -> Element {
    Element { text: Some(text.to_string()), ..el(name) }
}

impl Element {
    /// With an attribute.
    pub(super) fn attr(mut self, name: &'static str, value: impl ToString) -> Self {
        self.attributes.push((name, value.to_string()));
        self
    }

    /// With an attribute, if it has a value.
    pub(super) fn attr_if(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    /// With a child.
    pub(super) fn with(self, child: Self) -> Self {
        self.with_all([child])
    }

    /// With several children, or none.
    pub(super) fn with_all(mut self, new: impl IntoIterator<Item = Self>) -> Self {
        self.children.extend(new);
        self
    }

    /// Rendered with an indent of two blanks a level.
    pub(super) fn render(&self) -> String {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        // Writing to a Vec cannot fail.
        let _ = self.write(&mut writer);
        String::from_utf8_lossy(&writer.into_inner()).into_owned()
    }

    fn write(&self, writer: &mut Writer<Vec<u8>>) -> std::io::Result<()> {
        let attributes = self.attributes.iter().map(|(name, value)| (*name, value.as_str()));
        let element = writer.create_element(self.name).with_attributes(attributes);
        match &self.text {
            Some(text) => element.write_text_content(BytesText::new(text)),
            None if self.children.is_empty() => element.write_empty(),
            None => element
                .write_inner_content(|writer| self.children.iter().try_for_each(|child| child.write(writer))),
        }
        .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_text_and_any_attribute_value_is_read_back_unchanged(value in "[ -~äß€]{0,40}", body in "[!-~äß€]{1,40}") {
            let xml = el("a").attr("x", &value).with(text("b", &body)).render();
            let read = roxmltree::Document::parse(&xml).unwrap();
            proptest::prop_assert_eq!(read.root_element().attribute("x"), Some(value.as_str()));
            let b = read.root_element().first_element_child().unwrap();
            proptest::prop_assert_eq!(b.text(), Some(body.as_str()));
        }
    }
}
